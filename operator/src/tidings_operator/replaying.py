"""EventReplays: requested from the archive under the object's uid, which makes requests idempotent.

The archive sends its own events at the requested rate. The operator releases dead letters one by one, with the object's
uid as their batch: it sends those that were open at the beginning and are not in the batch yet. Therefore it continues
after a restart, and letters that fail again are not sent a second time. A letter that cannot be sent is skipped.

A replay is complete once the consumer has confirmed all sent events, or has confirmed nothing for the replay's
`confirmationTimeout`. All counts come from the archive, so another operator can continue.

Deleting an EventReplay cancels it. Because the archive continues to send, a finalizer keeps the object until the
archive has been notified.
"""

import asyncio
import time
from collections.abc import Mapping
from datetime import UTC, datetime
from functools import partial
from typing import Any

import msgspec

from tidings_operator import replay_progress as progress
from tidings_operator.archive import Archive, ArchiveError, Archives
from tidings_operator.cache import ObjectReference, Tracked
from tidings_operator.client import NAMESPACES, OWN, Client
from tidings_operator.conditions import Condition, dated, judged
from tidings_operator.judging import JudgementError
from tidings_operator.reconciling import MoreTimeError, Reconciler, unjudged
from tidings_operator.replay_progress import ENDED, Status
from tidings_operator.workqueue import Key
from tidings_plan import cel, plan_replay
from tidings_plan.replays import condition
from tidings_plan.resources import EventReplay, EventSubscription, has_errors, worst_first

STEP = 1.0
"""Seconds over which the dead letters of a step are spread."""
OUTAGE = 10.0
"""Seconds between attempts to reach the archive."""
AT_ONCE = 8
"""Maximum number of dead letters that are read concurrently."""
FINALIZER = "tidings.dev/replay"
MERGE = "application/merge-patch+json"
STOPPED = {"cancelled": "Cancelled", "failed": "Failed"}
"""States of the archive's replays that ended before everything was sent, with the phase."""


class Replayer:
    """Executes EventReplays."""

    def __init__(self, reconciler: Reconciler, client: Client, archives: Archives, *, poll: float) -> None:
        self._reconciler = reconciler
        self._client = client
        self._archives = archives
        self._poll = poll
        self._due: dict[str, float] = {}
        """By uid, the monotonic time before which a replay takes no further step."""
        self._ended: set[str] = set()
        """Uids of replays that need no further step."""
        self._fitting: dict[str, dict[int, bool]] = {}
        """By uid, whether a dead letter's event matches the filters: events do not change."""
        self._skipped: dict[str, dict[int, str]] = {}
        """By uid, the reasons why dead letters cannot be sent. After a restart they are tried again."""

    async def __call__(self, key: Key) -> None:
        """Advance a replay by one step, and schedule the next one."""
        place: ObjectReference = ("EventReplay", key.namespace, key.name)
        replay = self._reconciler.cache.inventory.replays.get((key.namespace, key.name))
        tracked = self._reconciler.cache.objects.get(place)
        if replay is None or tracked is None:
            await self._reconciler.unreadable(key)
            return
        before = tracked.decoded_status()
        if replay.metadata.deletion_timestamp:
            await self._cancel(place, replay, tracked, before)
            return
        if before.get("phase") in ENDED:
            await self._let_go(place, tracked.uid)
            return
        if (wait := self._due.get(tracked.uid, 0.0) - time.monotonic()) > 0:
            self._reconciler.queue.later(key, wait)
            return
        try:
            inventory = self._reconciler.cache.inventory
            findings = await self._reconciler.judged(key, lambda: worst_first(plan_replay(replay, inventory)))
        except JudgementError as error:
            findings = [unjudged(replay.ref, error)]
        target = self._reconciler.cache.inventory.subscriptions.get((_home(replay), replay.spec.target.subscription))
        if target is None or has_errors(findings):
            await self._patch_status(place, replay, {**before, "phase": "Pending"}, judged("Ready", findings, ("", "")))
            return
        await self._advance(key, replay, target, tracked.uid, before)

    async def _advance(
        self, key: Key, replay: EventReplay, target: EventSubscription, uid: str, before: Status
    ) -> None:
        place: ObjectReference = ("EventReplay", key.namespace, key.name)
        pause = STEP if replay.spec.source.kind == "DeadLetters" else self._poll
        # Rates below one per second: a step sends at least one event.
        self._due[uid] = time.monotonic() + max(pause, 1 / replay.spec.rate)
        try:
            after = await self._step(place, replay, target, uid, before)
        except MoreTimeError:
            self._due.pop(uid)  # the step is repeated with more time
            raise
        except ArchiveError as error:
            await self._no_answer(place, replay, before, error)
            return
        await self._patch_status(place, replay, after, progress.ready(replay, after))
        if after["phase"] not in ENDED:
            self._reconciler.queue.later(key, max(self._due[uid] - time.monotonic(), 0.0))
        else:
            await self._let_go(place, uid)

    async def _no_answer(
        self, place: ObjectReference, replay: EventReplay, before: Status, error: ArchiveError
    ) -> None:
        """End a replay that the archive rejects; retry later if the archive is unavailable."""
        recorded = self._recorded(place, before)
        if error.is_final:
            after, reason = progress.ended(recorded, "Failed", _now()), "Refused"
        else:
            after, reason = {**recorded, "phase": recorded.get("phase", "Pending")}, "ArchiveUnreachable"
        await self._patch_status(place, replay, after, Condition("Ready", "False", reason, str(error)))
        self._reconciler.queue.later(Key(*place), OUTAGE)

    def _recorded(self, place: ObjectReference, before: Status) -> Status:
        """Return the last written status: a step that ends early may have written one."""
        tracked = self._reconciler.cache.objects.get(place)
        return {**before, **(tracked.decoded_status() if tracked else {})}

    async def _cancel(self, place: ObjectReference, replay: EventReplay, tracked: Tracked, before: Status) -> None:
        """Cancel a deleted replay in the archive, then remove the finalizer."""
        if replay.spec.source.kind == "Archive" and before.get("phase") == "Running":
            self._reconciler.must_lead()
            try:
                await self._archive(replay).cancel(
                    tracked.uid, f"EventReplay {replay.metadata.name}, which was deleted"
                )
            except ArchiveError as error:
                if not await self._is_leaving(_home(replay)):
                    fix = f"It is deleted once the archive has been notified; or remove the finalizer {FINALIZER}."
                    unsaid = Condition("Ready", "False", "ArchiveUnreachable", f"{error}. {fix}")
                    await self._patch_status(place, replay, before, unsaid)
                    self._reconciler.queue.later(Key(*place), OUTAGE)
                    return
            note = f"cancelled: it was deleted after {before.get('sent', 0)} of {before.get('matched', 0)} events"
            await self._reconciler.record_event(place, "Cancelled", note, warning=False)
        self._ended.discard(tracked.uid)
        await self._let_go(place, tracked.uid)

    async def _is_leaving(self, namespace: str) -> bool:
        """Return True if a namespace is terminating or deleted.

        Its consumer and its archive leave with it. Waiting for the archive would keep it terminating forever.
        """
        listed = await self._client.request(
            "GET", NAMESPACES.path(), params={"fieldSelector": f"metadata.name={namespace}"}
        )
        return all(item["metadata"].get("deletionTimestamp") for item in listed["items"])

    async def _let_go(self, place: ObjectReference, uid: str) -> None:
        """Finish a replay that has ended, even if a previous operator should have done so."""
        if uid not in self._ended:
            await self._hold(place, uid, hold=False)
            self._ended.add(uid)
            self._due.pop(uid, None)
            self._fitting.pop(uid, None)
            self._skipped.pop(uid, None)

    async def _hold(self, place: ObjectReference, uid: str, *, hold: bool) -> None:
        """Add or remove the finalizer that keeps an object until its last step."""
        kind, namespace, name = place
        current = await self._client.get(OWN[kind], namespace, name)
        if current is None or current["metadata"]["uid"] != uid:
            return
        before = current["metadata"].get("finalizers", [])
        after = [finalizer for finalizer in before if finalizer != FINALIZER] + [FINALIZER] * hold
        if after == before:
            return
        self._reconciler.must_lead()
        patch = {"metadata": {"resourceVersion": current["metadata"]["resourceVersion"], "finalizers": after}}
        await self._client.request("PATCH", OWN[kind].path(namespace, name), patch, content_type=MERGE)

    async def _step(
        self, place: ObjectReference, replay: EventReplay, target: EventSubscription, uid: str, before: Status
    ) -> Status:
        is_archive = replay.spec.source.kind == "Archive"
        if before.get("phase") != "Running":
            before = progress.started(before, uid, replay.spec.requested_by or "unknown", _now())
            if not replay.spec.dry_run:
                if is_archive:
                    await self._hold(place, uid, hold=True)
                # Written before anything is sent, so that the start is known after a crash.
                await self._patch_status(place, replay, before, progress.ready(replay, before))
        if is_archive:
            return await self._from_archive(replay, target, uid, before)
        return await self._from_dead_letters(place, replay, target, uid, before)

    async def _from_archive(self, replay: EventReplay, target: EventSubscription, uid: str, before: Status) -> Status:
        answer = await self._archive(replay).begin(_order(replay, target, uid), dry_run=replay.spec.dry_run)
        if replay.spec.dry_run:
            return progress.ended({**before, "matched": answer["matched"]}, "Completed", _now(), "counted")
        skipped = await self._archive(replay).skipped(uid) if answer["skipped"] else []
        is_sent = answer["state"] == "completed"
        after = progress.counted(before, answer, skipped, _now(), all_sent=is_sent)
        if phase := STOPPED.get(answer["state"]):
            return progress.ended({**after, "failure": answer["reason"] or ""}, phase, _now())
        return _settled(replay, after)

    async def _from_dead_letters(
        self, place: ObjectReference, replay: EventReplay, target: EventSubscription, uid: str, before: Status
    ) -> Status:
        is_sent = "sentAt" in before
        letters, through = ([], before["through"]) if is_sent else await self._left(place, replay, target, uid, before)
        before = {**before, "matched": before.get("matched", len(letters)), "through": through}
        if replay.spec.dry_run:
            return progress.ended(before, "Completed", _now(), "counted")
        if not before["sent"]:
            # Counted before the first is sent, because sent ones cannot be counted after a crash.
            await self._patch_status(place, replay, before, progress.ready(replay, before))
            if "through" not in self._recorded(place, {}):
                return before  # a concurrent write: the next step retries
        skipped = self._skipped.setdefault(uid, {})
        sendable = [letter for letter in letters if letter["number"] not in skipped]
        now = sendable[: max(1, int(replay.spec.rate * STEP))]
        for letter in now:
            self._reconciler.must_lead()
            by = f"EventReplay {replay.metadata.name} ({replay.spec.requested_by or 'unknown'})"
            try:
                await self._archive(replay).replay_dead_letter(letter["number"], by, target.metadata.name, uid)
            except ArchiveError as error:
                if not error.is_final:
                    raise
                skipped[letter["number"]] = str(error)
        counts = await self._archive(replay).outcomes(uid)
        is_sent = len(now) == len(sendable)
        # A letter that has been decided meanwhile is skipped, too.
        missing = before["matched"] - counts["sent"] if is_sent else len(skipped)
        counts |= {"matched": before["matched"], "skipped": max(missing, 0)}
        shown = [f"dead letter {number}: {reason}" for number, reason in skipped.items()]
        return _settled(replay, progress.counted(before, counts, shown, _now(), all_sent=is_sent))

    async def _left(
        self, place: ObjectReference, replay: EventReplay, target: EventSubscription, uid: str, before: Status
    ) -> tuple[list[dict[str, Any]], int]:
        """Return the matching dead letters that have not been sent, and the highest number that may belong to them."""
        criteria = replay.spec.filter
        query = {
            "app": target.spec.consumer.app_id,
            "notBatch": uid,
            **({"type": criteria.type} if criteria.type else {}),
            **({"correlationId": criteria.correlation_id} if criteria.correlation_id else {}),
        }
        known = [
            letter
            async for letter in self._archive(replay).open_dead_letters(query)
            if letter["subscription"] in (None, target.metadata.name)
        ]
        through = before.get("through", max((letter["number"] for letter in known), default=0))
        candidates = [
            letter
            for letter in known
            if letter["number"] <= through
            and (not criteria.ids or letter["eventId"] in criteria.ids)
            and criteria.reason in (letter["reason"] or "")
            and (not criteria.versions or f"v{letter['version']}" in criteria.versions)
        ]
        return await self._meant(Key(*place), replay, uid, candidates), through

    async def _meant(
        self, key: Key, replay: EventReplay, uid: str, letters: list[dict[str, Any]]
    ) -> list[dict[str, Any]]:
        """Return the matching dead letters; if there are filters, each is read once.

        Letters that cannot be read or evaluated are skipped with the reason: the others are sent.
        """
        criteria = replay.spec.filter
        if not (criteria.since or criteria.until or criteria.match):
            return letters
        known, slots = self._fitting.setdefault(uid, {}), asyncio.Semaphore(AT_ONCE)
        archive = self._archive(replay)

        async def look(number: int) -> None:
            async with slots:
                try:
                    event = await archive.dead_event(number)
                    known[number] = await self._reconciler.judged(key, partial(fits, replay, event))
                except (ArchiveError, JudgementError) as error:
                    if isinstance(error, ArchiveError) and not error.is_final:
                        raise
                    known[number] = True
                    self._skipped.setdefault(uid, {})[number] = f"it cannot be judged: {error}"

        await asyncio.gather(*(look(letter["number"]) for letter in letters if letter["number"] not in known))
        return [letter for letter in letters if known[letter["number"]]]

    def _archive(self, replay: EventReplay) -> Archive:
        return self._archives.of(_home(replay))

    async def _patch_status(
        self, place: ObjectReference, replay: EventReplay, status: Status, ready: Condition
    ) -> None:
        tracked = self._reconciler.cache.objects.get(place)
        if tracked is None:
            return
        generation = replay.metadata.generation
        ended = status["phase"] in ENDED
        stalled = ready.status == "False" and status["phase"] != "Running"
        conditions = [
            ready,
            *progress.outcome_conditions(replay, status),
            Condition("Reconciling", "False" if ended or stalled else "True", ready.reason, ready.message),
            Condition("Stalled", "True" if stalled else "False", ready.reason),
        ]
        dated_conditions = dated(conditions, tracked.decoded_status(), generation, _now())
        await self._reconciler.patch_status(
            place, {**status, "observedGeneration": generation, "conditions": dated_conditions}
        )


def _home(replay: EventReplay) -> str:
    """Return the namespace of a replay's consumer and archive."""
    return replay.spec.target.namespace or replay.metadata.namespace


def _order(replay: EventReplay, target: EventSubscription, uid: str) -> dict[str, Any]:
    """Convert a replay to a request to the archive."""
    criteria = replay.spec.filter
    order = {
        "replayId": uid,
        "consumer": target.spec.consumer.app_id,
        "subscription": target.metadata.name,
        "types": [f"{criteria.type}.{version}" for version in criteria.versions]
        or ([criteria.type] if criteria.type else []),
        "since": criteria.since.isoformat() if criteria.since else None,
        "until": criteria.until.isoformat() if criteria.until else None,
        "correlationId": criteria.correlation_id or None,
        "ids": list(criteria.ids) or None,
        "match": _without_none(msgspec.to_builtins(list(criteria.match))) or None,
        "ratePerSecond": replay.spec.rate,
        "by": replay.spec.requested_by or f"EventReplay {replay.metadata.name}",
    }
    return {name: value for name, value in order.items() if value is not None}


def fits(replay: EventReplay, event: Mapping[str, Any]) -> bool:
    """Return True if an event is within the time range of a replay and matches its filters."""
    criteria = replay.spec.filter
    if criteria.since or criteria.until:
        happened = _time(event)
        if (
            happened is None
            or (criteria.since and happened < criteria.since)
            or (criteria.until and happened >= criteria.until)
        ):
            return False
    expression = condition(replay)
    return not expression or cel.evaluate(expression, dict(event)) is True


def _without_none(value: Any) -> Any:
    """Remove unset fields from a filter."""
    if isinstance(value, list):
        return [_without_none(item) for item in value]
    if isinstance(value, dict):
        return {name: _without_none(item) for name, item in value.items() if item is not None}
    return value


def _time(event: Mapping[str, Any]) -> datetime | None:
    """Return the time of an event, or None if it has no comparable one."""
    try:
        parsed = datetime.fromisoformat(str(event.get("time")))
    except ValueError:
        return None
    return parsed if parsed.tzinfo else None


def _settled(replay: EventReplay, status: Status) -> Status:
    """Return the status of a replay that has nothing to wait for as completed."""
    return (
        progress.ended(status, "Completed", _now())
        if progress.is_settled(replay, status, datetime.now(UTC))
        else status
    )


def _now() -> str:
    return progress.timestamp(datetime.now(UTC))
