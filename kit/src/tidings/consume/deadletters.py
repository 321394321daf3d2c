"""Dead letters: an event that was given up, with why, where and how often it failed.

Every dead letter is published by the service itself, under an id of its own. What happens where that fails:

- The broker or the sidecar does not answer: the event stays with the broker and is delivered again.
- The broker refuses it, for instance as too large: it is shortened, step by step, and says so.
- The broker refuses even that, because the topic is missing or forbidden: it is handed to the service's outbox, which
  stores it, tries again with growing pauses, and shows it as parked until the topic exists.
- The outbox refuses it, too (the direct strategy has no store): its first 48 KiB are
  written to the log, and it is counted as `logged`. Nothing is retried for ever.
"""

from __future__ import annotations

import base64
import re
import time
import uuid
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime

import msgspec
import structlog

from tidings.context import Outgoing
from tidings.dapr import Sidecar
from tidings.errors import MalformedEvent, SidecarError, SidecarUnavailable, StateConflict
from tidings.messages.envelope import MALFORMED, Envelope, Failure, new_id, timestamp
from tidings.observability import metrics
from tidings.outcomes import DeadLetter, Done, Outcome, Postponed

log = structlog.get_logger(__name__)

MAX_REASON = 2_000
"""The longest reason, in characters."""
_REMEMBERED = 10_000
_SPACE = uuid.UUID("0b1f6c1e-8f39-5a55-9a0e-5a9f4b4a2f43")  # of the ids of dead letters
_SMALLER = (65_536, 8_192)  # bytes that are tried where the broker refuses more
_LOGGED = 49_152  # bytes of an event that are logged where nothing else takes it
_PASSING = (SidecarUnavailable, StateConflict)
# These concern the one delivery. daprd 1.18.1 ends where `traceid` is no string.
_OF_THE_DELIVERY = {"pubsubname", "topic", "traceid", "expiration", "replayto"}
_REPLACED = {*_OF_THE_DELIVERY, *Failure.__struct_fields__}
_KNOWN = [name for name in Envelope.__struct_fields__ if name not in {*_REPLACED, "data", "data_base64"}]
_UNPRINTABLE = re.compile("[\x00-\x1f\x7f-\x9f\u200e\u200f\u202a-\u202e\u2066-\u2069\ud800-\udfff]")


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

    def resume(self, subscription: str, event: str, count: int, first: float) -> None:
        """Go on counting an event that was tried elsewhere before; what is counted here already holds."""
        self._seen.setdefault((subscription, event), (count, first))

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


@dataclass(frozen=True, slots=True)
class Failed:
    """A delivery that is given up: the event as it came, what could be read of it, and how it failed.

    `first` is when it was tried first, in seconds since 1970. `readable` is False where the event is malformed and
    `envelope` holds what could be read of it.
    """

    body: bytes
    envelope: Envelope
    outcome: DeadLetter
    subscription: str
    attempts: int
    first: float
    readable: bool = True

    @property
    def identity(self) -> str:
        """The dead letter's own id: the same where one failure is published twice, another one for each replay.

        Bytes that could not be read have no identity of their own: each delivery of them is another dead letter.
        """
        if not self.readable:
            return new_id()
        return str(uuid.uuid5(_SPACE, f"{self.envelope.identity} {self.subscription} {self.envelope.replayid}"))


def clean(text: object) -> str:
    """Return a reason as one line without control characters, and bounded."""
    try:
        said = str(text)
    except Exception:  # noqa: BLE001 - an exception whose text cannot be made still has a name
        said = f"{type(text).__qualname__}, whose text cannot be read"
    shown = _UNPRINTABLE.sub("\ufffd", " ".join(said[: 2 * MAX_REASON].split()))
    return shown if len(shown) <= MAX_REASON else f"{shown[: MAX_REASON - 1]}…"


def dead_letters(failed: Failed, max_event: int) -> Iterator[bytes]:
    """Encode a dead letter: whole, then each time smaller, for brokers that refuse it.

    All have the same id. The smaller ones say how large the event was.
    """
    failure = _failure(failed)
    whole = _whole(failed, failure) if failed.readable else _cut(failed, failure, None)
    yield whole
    for limit in (max_event, *_SMALLER):
        if len(whole) > limit:
            yield _cut(failed, failure, limit)


def _failure(failed: Failed) -> dict[str, str]:
    return {
        "id": failed.identity,
        "originalid": failed.envelope.id,
        "failurereason": clean(failed.outcome.reason),
        "failureclass": clean(failed.outcome.error),
        "failureattempts": str(failed.attempts),
        "failuresubscription": failed.subscription,
        "failuretopic": failed.envelope.topic,
        "failurefirst": timestamp(datetime.fromtimestamp(failed.first, UTC)),
        "failurelast": timestamp(),
    }


def _whole(failed: Failed, failure: dict[str, str]) -> bytes:
    """Keep every attribute, also those that the kit does not know; those that it knows as they were read."""
    came = msgspec.json.decode(failed.body, type=dict[str, msgspec.Raw])
    unknown = {name: value for name, value in came.items() if name not in Envelope.__struct_fields__}
    read = msgspec.json.decode(failed.envelope.encode(), type=dict[str, msgspec.Raw])
    kept = {name: value for name, value in {**unknown, **read}.items() if name not in _REPLACED}
    return msgspec.json.encode({**kept, **failure})


def _cut(failed: Failed, failure: dict[str, str], limit: int | None) -> bytes:
    """Keep the attributes that are known, and of the content as much as fits into `limit` bytes, as base64."""
    envelope = failed.envelope
    longest = None if limit is None else limit // 32
    known = {name: getattr(envelope, name)[:longest] for name in _KNOWN if getattr(envelope, name)}
    letter = {
        "source": "unknown",
        "type": MALFORMED,
        "specversion": "1.0",
        **known,
        **failure,
        "originalid": envelope.id[:longest],
        "datacontenttype": "application/octet-stream",
    }
    content = failed.body
    if failed.readable:
        content = base64.b64decode(envelope.data_base64) or bytes(envelope.data)
    if limit is not None:
        letter["failureshortened"] = str(len(failed.body))
        content = content[: max((limit - len(msgspec.json.encode(letter)) - 100) // 4 * 3, 0)]
    return msgspec.json.encode({**letter, "data_base64": base64.b64encode(content).decode()})


@dataclass(frozen=True, slots=True)
class DeadLetterPublisher:
    """Publishes dead letters.

    Attributes:
        sidecar: Publishes them.
        topic: Where those of the service go.
        store: Puts a message into the service's outbox, for a broker that refuses it.
        max_event: The largest event that may be published, in bytes.

    """

    sidecar: Sidecar
    topic: str
    store: Callable[[Outgoing], Awaitable[None]]
    max_event: int = 1_000_000

    async def publish(self, failed: Failed, topic: str | None = None) -> Outcome:
        """Publish a dead letter, to a topic of its own if need be.

        Returns `Postponed` while sidecar, broker or store do not answer. `Done` is everything else: nobody has to try
        again.
        """
        ids, to = _ids(failed), topic or self.topic
        try:
            result = await self._publish(failed, to)
        except _PASSING as error:
            log.error("event.not_dead_lettered", **ids, reason=clean(error))
            return Postponed(clean(error))
        except Exception as error:
            shown = base64.b64encode(failed.body[:_LOGGED]).decode()
            log.critical(
                "dead_letter.logged", **ids, topic=to, size=len(failed.body), body_base64=shown, exc_info=error
            )
            result = "logged"
        metrics.safely(metrics.dead_lettered, failed.subscription, result)
        log.error("event.dead_lettered", **ids, reason=clean(failed.outcome.reason), result=result)
        return Done()

    async def _publish(self, failed: Failed, topic: str) -> str:
        letters = list(dead_letters(failed, self.max_event))
        for letter in letters:
            try:
                await self.sidecar.publish(topic, letter)
            except _PASSING:
                raise
            except SidecarError as error:
                refused = clean(error)
                log.warning("dead_letter.refused", **_ids(failed), topic=topic, size=len(letter), reason=refused)
            else:
                return "published" if failed.readable else "malformed"
        await self.store(Outgoing(topic, msgspec.Raw(letters[0])))  # its size was not the reason
        log.critical("dead_letter.stored", **_ids(failed), topic=topic, refused=refused)
        return "stored"


def malformed(body: bytes, envelope: Envelope, reason: str, subscription: str) -> Failed:
    """Describe an event that could not be read, of which `envelope` holds what could be."""
    outcome = DeadLetter(reason, MalformedEvent.__name__)
    return Failed(body, envelope, outcome, subscription, 1, time.time(), readable=False)


def _ids(failed: Failed) -> dict[str, str]:
    envelope = failed.envelope
    return {
        "event_id": envelope.id,
        "event_source": envelope.source,
        "correlation_id": envelope.correlationid,
        "subscription": failed.subscription,
    }
