"""Notify owners through the archive of their namespace.

The operator derives from its cache what is wrong or ends, and repeats it every hour. The archive publishes a notice as
an event and sends it to its webhook, once per silence period; it keeps the record. So nothing is lost or repeated when
the operator restarts, and an archive or webhook that does not answer delays no reconciliation.
"""

import asyncio
import logging
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from typing import Any

import msgspec

from tidings_operator.archive import ArchiveError, Archives
from tidings_operator.cache import Cache, Tracked
from tidings_plan.resources import EventType, Selection
from tidings_plan.resources.eventtype import Version

LOG = logging.getLogger(__name__)
NEAR = timedelta(days=30)
"""Time before a removal from which owners are notified of it."""
REPEAT = timedelta(hours=1)
"""Interval in which a notice is repeated to the archive, which drops it during the silence period."""
MOST_PROPOSALS = 100
"""Proposed changes that wait for an archive; of more, the oldest are dropped."""
LONGEST_NAME, LONGEST, MOST_OWNERS, MOST_PROBLEMS = 253, 2000, 100, 20
"""Limits of the events' schemas."""


@dataclass(frozen=True, slots=True)
class Notice:
    """A notice for the archive of a namespace."""

    namespace: str
    type: str
    data: dict[str, Any] = field(hash=False)

    @property
    def key(self) -> bytes:
        """Text that is the same for the same notice."""
        return msgspec.json.encode((self.namespace, self.type, self.data), order="deterministic")


class Notifier:
    """Sends the notices of an operator."""

    def __init__(
        self,
        cache: Cache,
        archives: Archives,
        *,
        grace: float,
        may_write: Callable[[], bool],
        clock: Callable[[], datetime],
    ) -> None:
        self._cache = cache
        self._archives = archives
        self._grace = timedelta(seconds=grace)
        self._may_write = may_write
        self._clock = clock
        self._proposals: deque[Notice] = deque(maxlen=MOST_PROPOSALS)
        self._sent: dict[bytes, datetime] = {}
        self._unavailable: set[str] = set()

    def propose(self, event_type: EventType, problems: Iterable[str], by: str) -> None:
        """Queue a notice about a refused change of an event type."""
        known = self._cache.inventory.types.get(event_type.key) or event_type
        self._proposals.extend(self._incompatible(known, problems, by=by, refused=True))

    async def run(self, synced: asyncio.Event, interval: float) -> None:
        """Send notices periodically, until cancelled."""
        await synced.wait()
        while True:
            await asyncio.sleep(interval)
            await self.send()

    async def send(self) -> None:
        """Send what is new, and repeat what was sent an hour ago. A leader sends all, others what their webhook saw."""
        now = self._clock()
        self._sent = {key: moment for key, moment in self._sent.items() if now - moment < REPEAT}
        silent: set[str] = set()
        for notice in [self._proposals.popleft() for _ in range(len(self._proposals))]:
            if not await self._post(notice, silent):
                self._proposals.append(notice)
        for notice in self._present(now) if self._may_write() else ():
            if notice.key not in self._sent and await self._post(notice, silent):
                self._sent[notice.key] = now
        for namespace in self._unavailable - silent:
            LOG.info("owners in %s are notified again", namespace)
        self._unavailable = silent

    async def _post(self, notice: Notice, silent: set[str]) -> bool:
        """Send a notice; return False if it must be sent again. An unavailable archive is called once per round."""
        if notice.namespace in silent:
            return False
        try:
            await self._archives.of(notice.namespace).notify(notice.type, notice.data)
        except ArchiveError as error:
            if error.is_final:
                LOG.error("the archive of %s rejects a notice (%s): %s", notice.namespace, notice.type, error)
                return True
            silent.add(notice.namespace)
            if notice.namespace not in self._unavailable:
                LOG.warning("owners in %s are not notified until their archive answers: %s", notice.namespace, error)
            return False
        return True

    def _present(self, now: datetime) -> list[Notice]:
        """Return all notices that the current state gives reason for."""
        inventory, today = self._cache.inventory, now.astimezone(UTC).date()
        found = [
            notice
            for event_type in inventory.types.values()
            for version in event_type.spec.versions
            for notice in self._ending(event_type, version, today)
        ]
        for key, problems in self._cache.misfits.items():
            if changed := inventory.types.get(key):
                found += self._incompatible(changed, problems.values())
        for (kind, namespace, name), tracked in self._cache.objects.items():
            if kind == "EventSubscription" and (notice := self._failed(namespace, name, tracked, now)):
                found.append(notice)
        return found

    def _ending(self, event_type: EventType, version: Version, today: date) -> Iterator[Notice]:
        ends = version.deprecation
        if ends is None or version.state == "Retired":
            return
        data = {
            "eventType": event_type.spec.type,
            "version": version.name,
            "removal": ends.removal.isoformat(),
            "alternative": ends.alternative[:LONGEST],
        }
        left = ends.removal - today
        if left <= NEAR:
            kind, data = "tidings.removalApproached", {**data, "daysLeft": left.days}  # type: ignore[dict-item]
        elif version.is_ending(today):
            kind = "tidings.versionDeprecated"
        else:
            return
        readers = self._cache.inventory.consumers(event_type)
        yield from _to_all(kind, event_type, [one for one in readers if version.name in one.events.versions], data)

    def _incompatible(
        self, event_type: EventType, problems: Iterable[str], *, by: str = "", refused: bool = False
    ) -> list[Notice]:
        data = {
            "eventType": event_type.spec.type,
            "problems": [problem[:LONGEST] for problem in problems][:MOST_PROBLEMS],
            "proposedBy": by[:LONGEST_NAME],
            "refused": refused,
        }
        readers = self._cache.inventory.consumers(event_type)
        return list(_to_all("tidings.incompatibleChangeProposed", event_type, readers, data))

    def _failed(self, namespace: str, name: str, tracked: Tracked, now: datetime) -> Notice | None:
        conditions = tracked.decoded_status().get("conditions") or ()
        ready = next((one for one in conditions if one["type"] == "Ready" and one["status"] == "False"), None)
        if ready is None or now - datetime.fromisoformat(ready["lastTransitionTime"]) < self._grace:
            return None
        known = self._cache.inventory.subscriptions.get((namespace, name))
        consumer = known.spec.consumer if known else None
        owned = consumer is not None and consumer.owner
        data = {
            "namespace": namespace,
            "subscription": name,
            "app": consumer.app_id if consumer else "",
            "reason": ready["reason"],
            "message": ready["message"][:LONGEST],
            "since": ready["lastTransitionTime"],
            "owners": [_owner(consumer.owner, consumer.contact, "consumer")] if consumer and owned else [],
        }
        return Notice(namespace, "tidings.subscriptionFailed", data)


def _to_all(kind: str, event_type: EventType, readers: list[Selection], data: dict[str, Any]) -> Iterator[Notice]:
    """Yield a notice for the type's namespace with all owners, and one per other namespace with its own."""
    home, owner = event_type.metadata.namespace, event_type.spec.owner
    for namespace in sorted({home, *(reader.metadata.namespace for reader in readers)}):
        consumers = [reader.spec.consumer for reader in readers if namespace in (home, reader.metadata.namespace)]
        named = sorted({(one.owner, one.contact) for one in consumers if one.owner})
        owners = [
            _owner(owner.team, owner.contact, "producer"),
            *(_owner(name, contact, "consumer") for name, contact in named),
        ]
        yield Notice(namespace, kind, {**data, "namespace": home, "owners": owners[:MOST_OWNERS]})


def _owner(name: str, contact: str, role: str) -> dict[str, str]:
    return {"name": name[:LONGEST_NAME], "contact": contact[:LONGEST], "role": role}
