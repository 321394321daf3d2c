"""Context of a delivery: the message that is handled, and the subscription that brought it."""

from __future__ import annotations

import msgspec

from tidings.messages.envelope import Envelope, Received


class Cause(msgspec.Struct, frozen=True):
    """What is being handled, and by whom.

    Attributes:
        source: The service, as the CloudEvents `source` of what it publishes.
        envelope: The event's metadata; for a request through an API, only a correlation id and a traceparent.
        subscription: The EventSubscription that brought it; empty for a request.
        attempt: 1 at first; 0 for a list, of which each message counts its own.
        once: Whether the event's id is kept with the document, so that it is handled once in effect.
        received: The event whole, where it was delivered to a handler of any.
        beside: The metadata of the other messages of a list that is handled together.
        scheduled: Whether the service has sent it to itself.

    """

    source: str
    envelope: Envelope
    subscription: str = ""
    attempt: int = 1
    once: bool = True
    received: Received | None = None
    beside: tuple[Envelope, ...] = ()
    scheduled: bool = False

    @property
    def key(self) -> str | None:
        """The deduplication key of the event at this subscription, or None where it may be handled again."""
        if not self.once or not self.envelope.id:
            return None
        return f"{self.subscription}/{self.envelope.identity}"

    @property
    def origin(self) -> str:
        """The id of the event that all of this follows from: a scheduled message is known to nobody else."""
        return self.envelope.causationid if self.scheduled else self.envelope.id

    @property
    def keys(self) -> tuple[str, ...]:
        """Under which names the handling of all messages of a list is remembered."""
        if self.key is None:
            return ()
        return (self.key, *(f"{self.subscription}/{each.identity}" for each in self.beside))
