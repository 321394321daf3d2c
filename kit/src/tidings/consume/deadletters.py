"""Dead letters: events that could not be handled, with the reason, the subscription and the number of attempts.

The service publishes every dead letter itself, with an id of its own. If publishing fails:

- Broker or sidecar unavailable: the event stays with the broker and is redelivered.
- Rejected by the broker, for example as too large: it is shortened in steps and marked with `failureshortened`.
- Still rejected, because the topic is missing or forbidden: it goes to the service's outbox, which retries with
  exponential backoff and lists it as parked until the topic exists.
- Rejected by the outbox too (the direct strategy has no store): its first 48 KiB are logged, and it is counted as
  `logged`. Nothing is retried forever.
"""

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
from tidings.messages.envelope import BINARY, MALFORMED, Envelope, Failure, new_id, timestamp
from tidings.observability import metrics
from tidings.outcomes import DeadLetter, Done, Outcome, Postponed

log = structlog.get_logger(__name__)

MAX_REASON = 2_000
"""Maximum length of a reason in characters."""
_MAX_EVENTS = 10_000
_NAMESPACE = uuid.UUID("0b1f6c1e-8f39-5a55-9a0e-5a9f4b4a2f43")  # of dead letters' ids
_SHORTER_SIZES = (65_536, 8_192)  # bytes, tried in turn if the broker rejects more
_MAX_LOGGED = 49_152  # bytes of an event in the log, the last resort
_TRANSIENT = (SidecarUnavailable, StateConflict)
# These belong to a single delivery. daprd 1.18.1 crashes if `traceid` is not a string.
_DELIVERY_ATTRIBUTES = {"pubsubname", "topic", "traceid", "expiration", "replayto"}
_REPLACED = {*_DELIVERY_ATTRIBUTES, *Failure.__struct_fields__}
_KNOWN = [name for name in Envelope.__struct_fields__ if name not in {*_REPLACED, "data", "data_base64"}]
_UNPRINTABLE = re.compile("[\x00-\x1f\x7f-\x9f\u200e\u200f\u202a-\u202e\u2066-\u2069\ud800-\udfff]")


@dataclass(slots=True)
class Attempts:
    """Bounded record of the number of attempts and the time of the first one, per event and subscription."""

    _attempts: OrderedDict[tuple[str, str], tuple[int, float]] = field(default_factory=OrderedDict)

    def current(self, subscription: str, event: str) -> tuple[int, float]:
        """Return the number of the current attempt, and the time of the first one in seconds since the Unix epoch."""
        if not self._attempts:  # fast path: usually nothing has failed
            return 1, time.time()
        count, first = self._attempts.get((subscription, event), (0, 0.0))
        return count + 1, first or time.time()

    def resume(self, subscription: str, event: str, count: int, first: float) -> None:
        """Continue the count of an event that was attempted elsewhere. An existing local count takes precedence."""
        self._attempts.setdefault((subscription, event), (count, first))

    def failed(self, subscription: str, event: str, first: float) -> None:
        """Count a failed attempt."""
        count, _ = self._attempts.pop((subscription, event), (0, 0.0))
        self._attempts[subscription, event] = (count + 1, first)
        if len(self._attempts) > _MAX_EVENTS:
            self._attempts.popitem(last=False)

    def forget(self, subscription: str, event: str) -> None:
        """Remove an event that has its final outcome."""
        if self._attempts:
            self._attempts.pop((subscription, event), None)


@dataclass(frozen=True, slots=True)
class FailedDelivery:
    """A delivery that has failed for good: the event as delivered, its readable attributes and the failure.

    `first` is the time of the first attempt in seconds since the Unix epoch. `readable` is False if the event is
    malformed; `envelope` then holds the attributes that could be read.
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
        """Id of the dead letter: stable if one failure is published twice, and different for each replay.

        Malformed bytes have no identity, so each of their deliveries becomes a separate dead letter.
        """
        if not self.readable:
            return new_id()
        return str(uuid.uuid5(_NAMESPACE, f"{self.envelope.identity} {self.subscription} {self.envelope.replayid}"))


def clean(text: object) -> str:
    """Return a reason as a single line without control characters, limited to `MAX_REASON` characters."""
    try:
        reason = str(text)
    except Exception:  # noqa: BLE001 - __str__ of a handler's exception may itself fail
        reason = f"{type(text).__qualname__} (its __str__ failed)"
    line = _UNPRINTABLE.sub("\ufffd", " ".join(reason[: 2 * MAX_REASON].split()))
    return line if len(line) <= MAX_REASON else f"{line[: MAX_REASON - 1]}…"


def encode_dead_letters(failed: FailedDelivery, max_event: int) -> Iterator[bytes]:
    """Encode a dead letter, first in full and then shortened, for brokers that reject large events.

    All variants have the same id; shortened ones carry the original size.
    """
    failure = {
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
    whole = _encode_in_full(failed, failure) if failed.readable else _encode_shortened(failed, failure, None)
    yield whole
    for limit in (max_event, *_SHORTER_SIZES):
        if len(whole) > limit:
            yield _encode_shortened(failed, failure, limit)


def _encode_in_full(failed: FailedDelivery, failure: dict[str, str]) -> bytes:
    """Keep all attributes: unknown ones unchanged, known ones as they were parsed."""
    delivered = msgspec.json.decode(failed.body, type=dict[str, msgspec.Raw])
    unknown = {name: value for name, value in delivered.items() if name not in Envelope.__struct_fields__}
    parsed = msgspec.json.decode(failed.envelope.encode(), type=dict[str, msgspec.Raw])
    kept = {name: value for name, value in {**unknown, **parsed}.items() if name not in _REPLACED}
    return msgspec.json.encode({**kept, **failure})


def _encode_shortened(failed: FailedDelivery, failure: dict[str, str], limit: int | None) -> bytes:
    """Keep the known attributes, and as much of the content as fits into `limit` bytes, in base64."""
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
        "datacontenttype": BINARY,
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
        topic: Default topic of the service's dead letters.
        store: Writes an event to the service's outbox, as a fallback.
        max_event: Maximum size of a published event in bytes.

    """

    sidecar: Sidecar
    topic: str
    store: Callable[[Outgoing], Awaitable[None]]
    max_event: int = 1_000_000

    async def publish(self, failed: FailedDelivery, topic: str | None = None) -> Outcome:
        """Publish a dead letter, to `topic` if the subscription has its own.

        Return `Postponed` if the sidecar, broker or store is unavailable, and `Done` otherwise.
        """
        ids, topic = _ids(failed), topic or self.topic
        try:
            result = await self._publish(failed, topic)
        except _TRANSIENT as error:
            log.error("dead_letter.publish_postponed", **ids, reason=clean(error))
            return Postponed(clean(error))
        except Exception as error:
            body = base64.b64encode(failed.body[:_MAX_LOGGED]).decode()
            log.critical(
                "dead_letter.logged", **ids, topic=topic, size=len(failed.body), body_base64=body, exc_info=error
            )
            result = "logged"
        metrics.safely(metrics.dead_lettered, failed.subscription, result)
        log.error("event.dead_lettered", **ids, reason=clean(failed.outcome.reason), result=result)
        return Done()

    async def _publish(self, failed: FailedDelivery, topic: str) -> str:
        letters = list(encode_dead_letters(failed, self.max_event))
        for letter in letters:
            try:
                await self.sidecar.publish(topic, letter)
            except _TRANSIENT:
                raise
            except SidecarError as error:
                rejection = clean(error)
                log.warning("dead_letter.rejected", **_ids(failed), topic=topic, size=len(letter), reason=rejection)
            else:
                return "published" if failed.readable else "malformed"
        await self.store(Outgoing(topic, msgspec.Raw(letters[0])))  # in full: its size was not the reason
        log.critical("dead_letter.stored", **_ids(failed), topic=topic, reason=rejection)
        return "stored"


def malformed(body: bytes, envelope: Envelope, reason: str, subscription: str) -> FailedDelivery:
    """Describe a malformed event; `envelope` holds the attributes that could be read."""
    outcome = DeadLetter(reason, MalformedEvent.__name__)
    return FailedDelivery(body, envelope, outcome, subscription, 1, time.time(), readable=False)


def _ids(failed: FailedDelivery) -> dict[str, str]:
    envelope = failed.envelope
    return {
        "event_id": envelope.id,
        "event_source": envelope.source,
        "correlation_id": envelope.correlationid,
        "subscription": failed.subscription,
    }
