"""The dapr strategy: publishes through Dapr's built-in outbox.

The state store is a component with `outboxPublishPubsub` and `outboxPublishTopic`; the sidecar publishes each
transaction on it. Requirements and costs (read in the source of daprd 1.18, and measured):

- **About one event per second** and topic on a broker that delivers sequentially: the sidecar sleeps for a second
  before it checks whether each transaction was committed. For higher rates, use the log strategy, which has no such
  requirements.
- One topic per component: a unit of work publishes to one topic, and a service names a component for each.
- The CloudEvent's id is always `outbox-<uuid>`. The event's own id is the attribute `eventid`, which the SDK's ingress
  reads as the id; consumers without the SDK must do the same.
- Only upserts publish, and every upsert does: a unit of work without messages is written through the plain component.
- The internal topic `<namespace><app id><topic>outbox` needs a stream on JetStream; otherwise every transaction fails.
- A transaction that fails after its internal event (a conflict) leaves that event behind. The sidecar looks for its
  marker for eleven seconds, blocking later events, and repeats this forever, unless `outboxDiscardWhenMissingState` is
  set; with it, an event is **lost** if the store is unavailable for those seconds.
- No scheduled messages and no depth: only the runtime knows the pending messages.

Guarantees on failure:

- Before the commit: the sidecar has an internal event without a marker; it is not published.
- Between commit and publish: the sidecar of this or another replica reads the internal topic.
- Between publish and acknowledgement: published again with the same ids.
- Broker down: the transaction is rejected, and nothing is written; events are redelivered, callers receive the error.
- Sidecar or state store down: `SidecarUnavailable`; whether the transaction was committed is unknown. A redelivered
  event is deduplicated by the inbox, as in the log strategy.

The order is that of the internal topic, if the broker preserves it and one replica of the sidecar reads it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import ClassVar

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

_KEPT = 3600  # time to live in seconds of the carrier of a second event
_CARRIED = (
    *("source", "type", "version", "subject", "time", "correlationid", "causationid"),
    *("traceparent", "tracestate", "baggage", "datasubject"),
)


class DaprOutbox:
    """Publishes through components of the state store with Dapr's outbox enabled.

        service = Service("orders", handlers, outbox=DaprOutbox.on({"orders.orderPlaced.v1": "state-placed"}))

    Args:
        sidecar: Client for the plain state component, used by units of work without messages.
        publishing: By topic, clients for the component that publishes to it, on the same store.
        max_event: Maximum size of a published event in bytes.

    """

    uses_state: ClassVar[bool] = True

    def __init__(self, sidecar: Sidecar, publishing: Mapping[str, Sidecar], max_event: int = 1_000_000) -> None:
        self._sidecar = sidecar
        self._publishing = publishing
        self._max_event = max_event

    @classmethod
    def on(cls, components: Mapping[str, str]) -> Callable[[Sidecar, Settings], DaprOutbox]:
        """Return an outbox factory for `Service`, given the state component that publishes to each topic."""

        def make(sidecar: Sidecar, settings: Settings) -> DaprOutbox:
            opened = {
                topic: DaprSidecar.from_settings(settings.model_copy(update={"tidings_state": name}))
                for topic, name in components.items()
            }
            return cls(sidecar, opened, settings.tidings_max_event)

        return make

    async def start(self, deliver: Deliver) -> None:
        """Do nothing: the runtime publishes independently."""

    async def stop(self, grace_period: float) -> None:
        """Close the connections."""
        del grace_period  # nothing is in flight in this process
        for sidecar in self._publishing.values():
            await sidecar.close()

    @property
    def depth(self) -> int:
        """0, because only the runtime knows the pending messages."""
        return 0

    def unit(self, delivery: DeliveryContext, now: datetime) -> DaprContext:
        """Open a unit of work."""
        return DaprContext(delivery, now, self._max_event, self._sidecar, self._publishing)


@dataclass(slots=True)
class DaprContext(DocumentContext):
    """A unit of work on one document, with events to one topic."""

    _publishing: Mapping[str, Sidecar]

    async def commit(self) -> None:
        """Write the document with its inbox; the runtime publishes the events.

        Raises:
            StateConflict: Another unit of work wrote the document first; nothing was written.
            AlreadyHandled: The event has been handled elsewhere.
            DefinitionError: Events to several topics, or to a topic without a component.
            SidecarUnavailable: The outcome is unknown.

        """
        if self._saved is None and not self.outgoing:
            return
        sidecar = self._publishing_sidecar()
        name, document, item = await self._document()
        self._remember(document)
        last = self.outgoing[-1] if self.outgoing else None
        main = Upsert(
            name,
            write(document),
            etag=item.etag if item else None,
            insert=item is None,
            ttl=self._ttl(),
            metadata=None if last is None else attributes(last),
        )
        # The document's own key carries the last event, whose value is replaced by the projection at the end.
        projection = [] if last is None else [Upsert(name, data(last), metadata=_PROJECTION)]
        await sidecar.transact([*map(_carrier, self.outgoing[:-1]), main, *projection])

    def _publishing_sidecar(self) -> Sidecar:
        topics = {message.topic for message in self.outgoing}
        if not topics:
            return self._sidecar
        if len(topics) > 1 or not topics <= self._publishing.keys():
            raise DefinitionError(
                f"Dapr's outbox publishes to one topic per state component, here {sorted(self._publishing)}: "
                f"a unit of work cannot publish to {sorted(topics)}; use the log strategy"
            )
        return self._publishing[topics.pop()]


_PROJECTION = {"outbox.projection": "true", "contentType": "application/json"}


def attributes(message: Outgoing) -> dict[str, str]:
    """Return the CloudEvents attributes of an event, which Dapr's outbox reads from the operation's metadata."""
    envelope = envelopes.decode(bytes(message.event))
    carried = {name: value for name in _CARRIED if (value := getattr(envelope, name))}
    return {**carried, "eventid": envelope.id}


def data(message: Outgoing) -> bytes:
    """Return the business data of an event."""
    return bytes(envelopes.decode(bytes(message.event)).data)


def _carrier(message: Outgoing) -> Upsert:
    """Return a write whose only purpose is to publish an event."""
    metadata = {**attributes(message), "contentType": "application/json"}
    return Upsert(f"outbox-event/{escape(metadata['eventid'])}", data(message), ttl=_KEPT, metadata=metadata)
