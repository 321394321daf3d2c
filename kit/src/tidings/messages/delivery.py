"""Context of a delivery: the message being handled and the subscription that delivered it."""

import msgspec

from tidings.messages.envelope import Envelope, Received


class DeliveryContext(msgspec.Struct, frozen=True):
    """The message being handled, and the service and subscription handling it.

    Attributes:
        source: The service, as the CloudEvents `source` of events it publishes.
        envelope: Metadata of the event. For an API request, only a correlation id and a traceparent.
        subscription: The EventSubscription that delivered the event; empty for a request.
        attempt: Number of the attempt, from 1; 0 for a batch, whose messages count their own.
        deduplicate: True if the event's id is stored with the handler's writes, so that the event has its effect once.
        received: The event as delivered, for handlers of any type.
        batch_members: Metadata of the other messages in the batch.
        scheduled: True for a message that the service scheduled for itself.

    """

    source: str
    envelope: Envelope
    subscription: str = ""
    attempt: int = 1
    deduplicate: bool = True
    received: Received | None = None
    batch_members: tuple[Envelope, ...] = ()
    scheduled: bool = False

    @property
    def key(self) -> str | None:
        """Deduplication key, or None if the event may be handled again."""
        if not self.deduplicate or not self.envelope.id:
            return None
        return f"{self.subscription}/{self.envelope.identity}"

    @property
    def origin(self) -> str:
        """Id that published events carry as `causationid`.

        Scheduled messages never leave the service, so the id of the event that caused them is passed on.
        """
        return self.envelope.causationid if self.scheduled else self.envelope.id

    @property
    def keys(self) -> tuple[str, ...]:
        """Deduplication keys of all messages in the batch."""
        if self.key is None:
            return ()
        return (self.key, *(f"{self.subscription}/{member.identity}" for member in self.batch_members))
