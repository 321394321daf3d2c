"""What a handler is given beside its event: the metadata, and publishing.

What a handler asks for here happens after it has returned, all together, or not at all. How, is the strategy's
affair (`tidings.outbox`): each has a context of its own that adds what it can keep together with the messages.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Self

import msgspec
import structlog

from tidings.errors import DefinitionError, EventTooLarge
from tidings.messages import events
from tidings.messages.delivery import Cause
from tidings.messages.envelope import Envelope, check_texts, new_id, timestamp
from tidings.messages.events import MessageType, message_type
from tidings.observability import tracing

log = structlog.get_logger(__name__)


class AlreadyHandled(Exception):
    """No error: it ends a handling that has happened before. Raised and caught by the kit."""


class Outgoing(msgspec.Struct, frozen=True):
    """An encoded CloudEvent on its way to a topic."""

    topic: str
    event: msgspec.Raw


@dataclass(slots=True)
class Context:
    """The unit of work around one event or request.

    Attributes:
        cause: What is being handled.
        now: The moment at which handling began, in UTC: domain code is given it, it has no clock of its own.
        max_event: The largest event that may be published, in bytes.
        outgoing: What will be published.

    """

    cause: Cause
    now: datetime
    max_event: int
    outgoing: list[Outgoing] = field(default_factory=list, init=False)
    _after: list[Callable[[], object]] = field(default_factory=list, init=False)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        """Nothing is held: what was not committed has not happened."""

    # -- metadata -----------------------------------------------------------------------------------------------

    @property
    def id(self) -> str:
        """The event's id; empty for a request."""
        return self.cause.envelope.id

    @property
    def correlation_id(self) -> str:
        """What all events of one business transaction share."""
        return self.cause.envelope.correlationid

    @property
    def subscription(self) -> str:
        """The EventSubscription that brought the event."""
        return self.cause.subscription

    @property
    def attempt(self) -> int:
        """How often the event has been tried, this time included; 0 for a list that is handled together."""
        return self.cause.attempt

    @property
    def metadata(self) -> Envelope:
        """All attributes of the event."""
        return self.cause.envelope

    @property
    def time(self) -> datetime:
        """When the fact happened, as its producer says; `now` where it does not say."""
        text = self.cause.envelope.time
        return datetime.fromisoformat(text) if text else self.now

    # -- messages -----------------------------------------------------------------------------------------------

    def correlate(self, correlation_id: str) -> None:
        """Let what is published from here on belong to that business transaction.

        For a request about something that began earlier, and for a step that moves another entity on than the one
        whose event caused it: a driver who is free again is given the next order.
        """
        envelope = msgspec.structs.replace(self.cause.envelope, correlationid=correlation_id)
        self.cause = msgspec.structs.replace(self.cause, envelope=envelope)

    def publish(self, *representations: object, identity: str = "") -> str:
        """Publish one fact or command after the commit, given in one or several versions; answers its id.

        Every version carries the same id: it is the same fact, and a consumer that reads two versions while it
        moves from one to the other handles it once. `identity` is the id of a fact that was recorded before and is
        told again.

        Raises:
            DefinitionError: The classes are no events, or not versions of one and the same.
            EventTooLarge: Larger than `TIDINGS_MAX_EVENT` bytes.
            MalformedEvent: Its subject or correlation id has control characters.

        """
        kinds = [message_type(type(message)) for message in representations]
        if len({kind.name for kind in kinds}) != 1:
            raise DefinitionError(f"one fact in several versions, not {[kind.label for kind in kinds]}: publish each")
        identity = identity or new_id()
        for kind, message in zip(kinds, representations, strict=True):
            self.outgoing.append(Outgoing(kind.topic, self.encode(kind, message, identity)))
        return identity

    def after_commit(self, callback: Callable[[], object]) -> None:
        """Call that once the unit of work is committed, in this process: to wake who is looking on.

        Nothing may depend on it: a process that dies in between never calls it, and other replicas do not either.
        """
        self._after.append(callback)

    def committed(self) -> None:
        """Call what waits for the commit. For the kit's own use.

        An error in a callback is logged: what is committed has happened, and must not be tried again.
        """
        for callback in self._after:
            try:
                callback()
            except Exception as error:
                log.error("after_commit.failed", exc_info=error)

    def encode(self, kind: MessageType, message: object, identity: str) -> msgspec.Raw:
        """Put a message into its envelope.

        Raises:
            EventTooLarge: Larger than `TIDINGS_MAX_EVENT` bytes.
            MalformedEvent: Its subject or correlation id has control characters.

        """
        cause = self.cause.envelope
        traceparent, tracestate, baggage = tracing.producer(kind.label, identity, cause)
        envelope = Envelope(
            id=identity,
            source=self.cause.source,
            type=kind.name,
            specversion="1.0",
            version=str(kind.version),
            subject=kind.subject_of(message) or "",
            time=timestamp(self.now),
            datacontenttype="application/json",
            correlationid=cause.correlationid or identity,
            causationid=self.cause.origin,
            traceparent=traceparent,
            tracestate=tracestate,
            baggage=baggage,
            data=msgspec.Raw(events.encode(message)),
        )
        if not (envelope.subject.isprintable() and envelope.correlationid.isprintable()):
            check_texts(envelope)
        body = envelope.encode()
        if len(body) > self.max_event:
            raise EventTooLarge(
                f"{kind.label} has {len(body)} bytes, {self.max_event} is the limit: "
                f"send a reference instead, or raise TIDINGS_MAX_EVENT and the broker's own limit"
            )
        return msgspec.Raw(body)


def request(correlation_id: str = "", traceparent: str = "", baggage: str = "") -> Envelope:
    """Metadata of something that is no event: a request through an API."""
    return Envelope(
        correlationid=correlation_id, traceparent=traceparent, baggage=baggage, datacontenttype="application/json"
    )


def utc_now() -> datetime:
    """The moment, in UTC."""
    return datetime.now(UTC)
