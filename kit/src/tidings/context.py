"""Context of a handler: event metadata and publishing.

Everything a handler requests through its context takes effect after the handler has returned, atomically. How this is
guaranteed depends on the outbox strategy (`tidings.outbox`): each has a context class of its own, which adds the writes
that it can commit together with the messages.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Self

import msgspec
import structlog

from tidings.errors import DefinitionError, EventTooLarge
from tidings.messages import events, personal
from tidings.messages.delivery import DeliveryContext
from tidings.messages.envelope import MAX_ATTRIBUTE, Envelope, check_texts, new_id, timestamp
from tidings.messages.events import MessageType, message_type
from tidings.observability import tracing

_TRACEPARENT = re.compile("[0-9a-f]{2}-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}(?:-[!-~]{0,200})?")
_BAGGAGE = re.compile("[ -~]{0,8192}")  # what a header may hold, and as much as W3C asks for
log = structlog.get_logger(__name__)


class AlreadyHandled(Exception):
    """Ends the handling of a duplicate. Internal: raised and caught by the SDK, never visible to handlers."""


class Outgoing(msgspec.Struct, frozen=True):
    """An encoded CloudEvent and the topic it will be published to."""

    topic: str
    event: msgspec.Raw


@dataclass(slots=True)
class Context:
    """Unit of work around one event or request.

    Attributes:
        delivery: The message being handled.
        now: UTC time at which handling began. Domain code receives it instead of reading a clock.
        max_event: Maximum size of a published event in bytes.
        outgoing: Events to publish on commit.

    """

    delivery: DeliveryContext
    now: datetime
    max_event: int
    outgoing: list[Outgoing] = field(default_factory=list, init=False)
    _after: list[Callable[[], object]] = field(default_factory=list, init=False)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        """Do nothing: an uncommitted unit of work has no effects to undo."""

    # -- metadata -----------------------------------------------------------------------------------------------

    @property
    def id(self) -> str:
        """Event id; empty for a request."""
        return self.delivery.envelope.id

    @property
    def correlation_id(self) -> str:
        """Correlation id, shared by all events of one business transaction."""
        return self.delivery.envelope.correlationid

    @property
    def subscription(self) -> str:
        """Name of the EventSubscription that delivered the event."""
        return self.delivery.subscription

    @property
    def attempt(self) -> int:
        """Number of this attempt, from 1; 0 for a batch."""
        return self.delivery.attempt

    @property
    def metadata(self) -> Envelope:
        """Attributes of the event."""
        return self.delivery.envelope

    @property
    def batch_metadata(self) -> tuple[Envelope, ...]:
        """Attributes of each message of a batch, in the order of the list that the handler receives."""
        return (self.delivery.envelope, *self.delivery.batch_members)

    @property
    def time(self) -> datetime:
        """Time of the event according to its producer, or `now` if the event has none."""
        text = self.delivery.envelope.time
        return datetime.fromisoformat(text) if text else self.now

    # -- messages -----------------------------------------------------------------------------------------------

    def correlate(self, correlation_id: str) -> None:
        """Set the correlation id of everything published from now on.

        Use it for a request that continues an earlier business transaction, and for a step that affects another entity
        than the event being handled: for example, a driver who becomes free is assigned the next order.
        """
        envelope = msgspec.structs.replace(self.delivery.envelope, correlationid=correlation_id)
        self.delivery = msgspec.structs.replace(self.delivery, envelope=envelope)

    def publish(self, *representations: object, event_id: str = "") -> str:
        """Publish a fact or command on commit, in one or several versions.

        All versions carry the same id, so a consumer that reads two versions while it migrates from one to the other
        handles the fact once.

        Args:
            representations: The message, once per version.
            event_id: The id of a fact that was recorded earlier and is published again; a new id by default.

        Returns:
            The event id.

        Raises:
            DefinitionError: The classes are not events, or not versions of the same event type.
            EventTooLarge: The event exceeds `TIDINGS_MAX_EVENT` bytes.
            MalformedEvent: The subject or correlation id contains control characters, or is too long.

        """
        kinds = [message_type(type(message)) for message in representations]
        if len({kind.name for kind in kinds}) != 1:
            labels = [kind.label for kind in kinds]
            raise DefinitionError(f"publish takes one event in several versions, not {labels}: publish each separately")
        event_id = event_id or new_id()
        for kind, message in zip(kinds, representations, strict=True):
            self.outgoing.append(Outgoing(kind.topic, self.encode(kind, message, event_id)))
        return event_id

    def after_commit(self, callback: Callable[[], object]) -> None:
        """Register a post-commit callback in this process, for example to notify open streams.

        Callbacks are best effort: they are lost if the process dies after the commit, and other replicas do not run
        them.
        """
        self._after.append(callback)

    def committed(self) -> None:
        """Run the post-commit callbacks. Internal.

        Errors are logged and not raised, because the committed unit of work must not be retried.
        """
        for callback in self._after:
            try:
                callback()
            except Exception as error:
                log.error("after_commit.failed", exc_info=error)

    def encode(self, kind: MessageType, message: object, event_id: str) -> msgspec.Raw:
        """Encode a message as a CloudEvent.

        Raises:
            EventTooLarge: The event exceeds `TIDINGS_MAX_EVENT` bytes.
            MalformedEvent: The subject or correlation id contains control characters, or is too long.

        """
        parent = self.delivery.envelope
        data, subject = personal.encrypt(kind.model, events.encode(message), self.delivery.source, event_id)
        traceparent, tracestate, baggage = tracing.producer(kind.label, event_id, parent)
        envelope = Envelope(
            id=event_id,
            source=self.delivery.source,
            type=kind.name,
            specversion="1.0",
            version=str(kind.version),
            subject=kind.subject_of(message) or "",
            time=timestamp(self.now),
            datacontenttype="application/json",
            correlationid=parent.correlationid or event_id,
            causationid=self.delivery.origin,
            traceparent=traceparent,
            tracestate=tracestate,
            baggage=baggage,
            datasubject=subject,
            data=msgspec.Raw(data),
        )
        # The other attributes are generated or were checked on arrival; these come from the application.
        texts = envelope.subject + envelope.correlationid + subject
        if len(texts) > MAX_ATTRIBUTE or not texts.isprintable():
            check_texts(envelope)
        body = envelope.encode()
        if len(body) > self.max_event:
            raise EventTooLarge(
                f"{kind.label} has {len(body)} bytes, the limit is {self.max_event}: "
                f"publish a reference instead, or raise TIDINGS_MAX_EVENT and the broker's limit"
            )
        return msgspec.Raw(body)


def request(correlation_id: str = "", traceparent: str = "", baggage: str = "") -> Envelope:
    """Return the metadata of an API request, which is not an event.

    `traceparent` and `baggage` are a client's headers. Values that W3C does not allow are left out: every consumer
    would refuse an event that carries them.
    """
    return Envelope(
        correlationid=correlation_id,
        traceparent=traceparent if _TRACEPARENT.fullmatch(traceparent) else "",
        baggage=baggage if _BAGGAGE.fullmatch(baggage) else "",
        datacontenttype="application/json",
    )


def utc_now() -> datetime:
    """Return the current time in UTC."""
    return datetime.now(UTC)
