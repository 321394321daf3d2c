"""The dapr strategy: Dapr's own outbox, for who prefers the runtime's.

The state store is a component with `outboxPublishPubsub` and `outboxPublishTopic`; each transaction on it is published
by the sidecar. What that asks for and costs (read in the source of daprd 1.18, and seen):

- **About one event a second** and topic on a broker that delivers one after the other: the sidecar sleeps a second
  before it looks whether each was committed. For more, use the log strategy, which needs nothing else.
- One topic for each component: a unit of work publishes to one topic, and a service names a component for each.
- The CloudEvent's id is always `outbox-<uuid>`. The event's own id travels as the attribute `eventid`, and the kit's
  ingress reads it as the id; who reads events without the kit must do so, too.
- Only upserts publish, and every upsert does: a unit of work that tells nothing is written through the plain component.
- The internal topic `<namespace><app id><topic>outbox` needs a stream on JetStream, else every transaction fails.
- A transaction that fails after its internal event (a conflict) leaves that event behind. The sidecar looks for its
  marker for eleven seconds, holding up what follows, and then again and again, for ever, unless
  `outboxDiscardWhenMissingState` is set; with it an event is **lost** where the store is away for those seconds.
- No scheduled messages, no depth: what waits is known to the runtime alone.

What holds when something fails:

- Before the commit: the sidecar has an internal event without a marker; it is not told.
- Between commit and publish: the sidecar, or another replica's, reads the internal topic; nothing of it is ours.
- Between publish and acknowledgement: published again with the same ids.
- Broker down: the transaction is refused, nothing is written; events are brought again, callers get the error.
- Sidecar or state store down: `SidecarUnavailable`; whether it was committed is not known, an event that comes again
  finds out by the inbox, as in the log strategy.

Order is that of the internal topic: as long as the broker keeps it, and one replica of the sidecar reads it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime

from tidings.context import Outgoing
from tidings.dapr import Sidecar, Upsert
from tidings.dapr.client import DaprSidecar
from tidings.errors import DefinitionError
from tidings.messages import envelope as envelopes
from tidings.messages.delivery import DeliveryContext
from tidings.messages.keys import escape
from tidings.outbox.documents import write
from tidings.outbox.log import DocumentContext
from tidings.outbox.port import Deliver
from tidings.settings import Settings

_KEPT = 3600  # seconds that the carrier of a second event stands in the store
_CARRIED = (
    *("source", "type", "version", "subject", "time", "correlationid", "causationid"),
    *("traceparent", "tracestate", "baggage"),
)


class DaprOutbox:
    """Publishes through components of the state store that have Dapr's outbox on them.

        service = Service("orders", handlers, outbox=DaprOutbox.on({"orders.orderPlaced.v1": "state-placed"}))

    Args:
        sidecar: With the plain state component, for what tells nothing.
        publishing: For each topic the same sidecar, with the component that publishes to it; on the same store.
        max_event: The largest event that may be published, in bytes.

    """

    def __init__(self, sidecar: Sidecar, publishing: Mapping[str, Sidecar], max_event: int = 1_000_000) -> None:
        self._sidecar = sidecar
        self._publishing = publishing
        self._max_event = max_event

    @classmethod
    def on(cls, components: Mapping[str, str]) -> Callable[[Sidecar, Settings], DaprOutbox]:
        """Say to a `Service` which state component publishes to which topic."""

        def make(sidecar: Sidecar, settings: Settings) -> DaprOutbox:
            opened = {
                topic: DaprSidecar.from_settings(settings.model_copy(update={"tidings_state": name}))
                for topic, name in components.items()
            }
            return cls(sidecar, opened, settings.tidings_max_event)

        return make

    async def start(self, deliver: Deliver) -> None:
        """Nothing is to be done: the runtime goes on by itself."""

    async def stop(self, grace_period: float) -> None:
        """Close the connections."""
        del grace_period  # nothing of ours is under way
        for each in self._publishing.values():
            await each.close()

    @property
    def depth(self) -> int:
        """0: what waits is known to the runtime alone."""
        return 0

    def unit(self, delivery: DeliveryContext, now: datetime) -> DaprContext:
        """Open a unit of work."""
        return DaprContext(delivery, now, self._max_event, self._sidecar, self._publishing)


@dataclass(slots=True)
class DaprContext(DocumentContext):
    """A unit of work on one document, with events to one topic."""

    _publishing: Mapping[str, Sidecar]

    async def commit(self) -> None:
        """Write the document with its inbox, and let the runtime publish.

        Raises:
            StateConflict: Somebody else wrote the document first; nothing has happened.
            AlreadyHandled: Somebody else has handled this very event.
            DefinitionError: Events to several topics, or to one that no component publishes to.
            SidecarUnavailable: The outcome is not known.

        """
        if self._saved is None and not self.outgoing:
            return
        through = self._through()
        name, document, item = await self._document()
        self._remember(document)
        others, last = self.outgoing[:-1], self.outgoing[-1] if self.outgoing else None
        main = Upsert(
            name,
            write(document),
            etag=item.etag if item else None,
            insert=item is None,
            ttl=self._ttl(),
            metadata=None if last is None else attributes(last),
        )
        # The document's own key carries the last event: its value is replaced by a projection, which stands at the end.
        projection = [] if last is None else [Upsert(name, data(last), metadata=_PROJECTION)]
        await through.transact([*(_carrier(each) for each in others), main, *projection])

    def _through(self) -> Sidecar:
        topics = {each.topic for each in self.outgoing}
        if not topics:
            return self._sidecar
        if len(topics) > 1 or not topics <= self._publishing.keys():
            raise DefinitionError(
                f"Dapr's outbox publishes to one topic for each state component, here to {sorted(self._publishing)}: "
                f"a unit of work cannot publish to {sorted(topics)}; use the log strategy, which can"
            )
        return self._publishing[topics.pop()]


_PROJECTION = {"outbox.projection": "true", "contentType": "application/json"}


def attributes(message: Outgoing) -> dict[str, str]:
    """The metadata of an event, as Dapr's outbox makes CloudEvents attributes of a state operation's metadata."""
    envelope = envelopes.decode(bytes(message.event))
    carried = {name: value for name in _CARRIED if (value := getattr(envelope, name))}
    return {**carried, "eventid": envelope.id}


def data(message: Outgoing) -> bytes:
    """The business data of an event."""
    return bytes(envelopes.decode(bytes(message.event)).data)


def _carrier(message: Outgoing) -> Upsert:
    """A key that stands in the store only so that an event is published."""
    found = attributes(message)
    metadata = {**found, "contentType": "application/json"}
    return Upsert(f"outbox-event/{escape(found['eventid'])}", data(message), ttl=_KEPT, metadata=metadata)
