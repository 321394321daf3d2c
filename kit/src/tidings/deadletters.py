"""Dead letters: an event as it came, with why, where and how often it failed."""

from __future__ import annotations

import time
from collections import OrderedDict
from dataclasses import dataclass, field
from datetime import UTC, datetime

import msgspec
import structlog

from tidings.envelope import Envelope, timestamp
from tidings.errors import SidecarError
from tidings.outcomes import DeadLetter, Done, Outcome, Postponed
from tidings.sidecar import Sidecar

log = structlog.get_logger(__name__)

_REMEMBERED = 10_000
_DAPRS = ("pubsubname", "topic", "traceid", "expiration", "replayto")


@dataclass(slots=True)
class Attempts:
    """How often each event was tried by each subscription of this process, and when first; bounded."""

    _seen: OrderedDict[tuple[str, str], tuple[int, float]] = field(default_factory=OrderedDict)

    def current(self, subscription: str, event: str) -> tuple[int, float]:
        """The number of the attempt that is now under way, and when the first one was (seconds since 1970)."""
        if not self._seen:  # as a rule nothing has failed
            return 1, time.time()
        count, first = self._seen.get((subscription, event), (0, 0.0))
        return count + 1, first or time.time()

    def failed(self, subscription: str, event: str, first: float) -> None:
        """Count an attempt."""
        count, _ = self._seen.pop((subscription, event), (0, 0.0))
        self._seen[subscription, event] = (count + 1, first)
        if len(self._seen) > _REMEMBERED:
            self._seen.popitem(last=False)

    def forget(self, subscription: str, event: str) -> None:
        """The event has its outcome."""
        if self._seen:
            self._seen.pop((subscription, event), None)


def dead_letter(
    body: bytes, envelope: Envelope, outcome: DeadLetter, subscription: str, attempts: int, first: float
) -> bytes:
    """The event as it came, to the byte of its data, with its failure as extension attributes.

    `first` is when it was tried first, in seconds since 1970.
    """
    attributes: dict[str, msgspec.Raw] = msgspec.json.decode(body, type=dict[str, msgspec.Raw])
    failure = {
        "failurereason": outcome.reason,
        "failureclass": outcome.error,
        "failureattempts": str(attempts),
        "failuresubscription": subscription,
        "failuretopic": envelope.topic,
        "failurefirst": timestamp(datetime.fromtimestamp(first, UTC)),
        "failurelast": timestamp(),
    }
    kept = {name: value for name, value in attributes.items() if name not in _DAPRS}
    return msgspec.json.encode({**kept, **failure})


@dataclass(frozen=True, slots=True)
class Burial:
    """Publishes dead letters to a service's dead-letter topic."""

    sidecar: Sidecar
    topic: str

    async def bury(
        self, body: bytes, envelope: Envelope, outcome: DeadLetter, subscription: str, attempts: int, first: float
    ) -> Outcome:
        """Publish a dead letter. While that is not possible the event stays where it is."""
        try:
            await self.sidecar.publish(self.topic, dead_letter(body, envelope, outcome, subscription, attempts, first))
        except SidecarError as error:
            log.error("event.not_buried", **_ids(envelope, subscription), reason=str(error))
            return Postponed(str(error))
        log.error("event.dead_lettered", **_ids(envelope, subscription), reason=outcome.reason)
        return Done()


def _ids(envelope: Envelope, subscription: str) -> dict[str, str]:
    return {"event_id": envelope.id, "correlation_id": envelope.correlationid, "subscription": subscription}
