"""The sidecar's twin: `tidings.dapr.Sidecar` in memory."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

import msgspec

from tidings.dapr import Item, Operation, Upsert
from tidings.dapr.preparing import prepare
from tidings.errors import SidecarError, SidecarUnavailable, StateRefused
from tidings.messages.envelope import timestamp
from tidings.testing.broker import MemoryBroker
from tidings.testing.faults import Faults
from tidings.testing.store import MemoryStore

_SEPARATOR = "||"


class MemorySidecar(Faults):
    """One app's sidecar. Sidecars that are given the same broker make one system.

        broker = MemoryBroker()
        orders = MemorySidecar("orders", broker)
        broker.attach("kitchen", kitchen_app, plan.apps["kitchen"].subscriptions)
        await orders.publish("orders.orderConfirmed.v2", envelope.encode())
        await broker.settle()

    A service that is started anew in a test gets a new sidecar on the same broker and store. How a sidecar fails on
    request is described at `Faults`. `pubsub` and `state` are the components that it asks for, as `DaprSidecar` does.
    """

    def __init__(
        self,
        app_id: str,
        broker: MemoryBroker | None = None,
        store: MemoryStore | None = None,
        *,
        pubsub: str = "pubsub",
        state: str = "state",
    ) -> None:
        super().__init__()
        self.app_id = app_id
        self.pubsub = pubsub
        self.state = state
        self.broker = MemoryBroker() if broker is None else broker
        self.store = MemoryStore() if store is None else store

    async def publish(self, topic: str, data: bytes, *, metadata: Mapping[str, str] | None = None) -> None:
        """Hand one CloudEvent to the broker; the metadata, which is for real brokers, is not looked at."""
        del metadata
        with self.around("publish"):
            if self.pubsub != self.broker.pubsub:
                raise SidecarUnavailable(f"{topic}: there is no pub/sub component named {self.pubsub}")
            self.broker.publish(topic, as_daprd_sends(data, self.broker.pubsub, topic))

    async def publish_many(self, topic: str, events: Sequence[bytes]) -> list[SidecarError | None]:
        """Hand several CloudEvents to the broker; each counts as a `publish` for the faults that a test orders."""
        return [await self._attempt(topic, each) for each in events]

    async def _attempt(self, topic: str, data: bytes) -> SidecarError | None:
        try:
            await self.publish(topic, data)
        except SidecarError as error:
            return error
        return None

    async def get(self, key: str) -> Item | None:
        """Read one key; None where there is nothing."""
        with self.around("get"):
            return self.store.read(self._owned(key))

    async def get_many(self, keys: Sequence[str]) -> dict[str, Item]:
        """Read many keys at once; those with nothing are left out."""
        with self.around("get_many"):
            found = {key: self.store.read(self._owned(key)) for key in keys}
            return {key: item for key, item in found.items() if item is not None}

    async def transact(self, operations: Iterable[Operation]) -> None:
        """Write several keys in one state transaction."""
        with self.around("transact"):
            owned = [replace(each, key=self._owned(each.key)) for each in operations]
            if any(isinstance(each, Upsert) and not each.value for each in owned):
                raise StateRefused(f"{owned}: an empty value cannot be stored")
            self.store.transact(owned)

    async def ready(self) -> bool:
        """Whether the sidecar answers."""
        return not self.down and (self.pubsub, self.state) == (self.broker.pubsub, self.store.name)

    async def close(self) -> None:
        """Give the connection back: there is none."""

    def _owned(self, key: str) -> str:
        if self.state != self.store.name:
            raise SidecarUnavailable(f"{key}: there is no state store named {self.state}")
        if _SEPARATOR in key:
            raise StateRefused(f"{key}: a key cannot hold {_SEPARATOR!r}, which Dapr puts between app id and key")
        return f"{self.app_id}{_SEPARATOR}{key}"


def as_daprd_sends(event: bytes, pubsub: str, topic: str) -> bytes:
    """Complete a CloudEvent as daprd does when it is published; the event's own data stays what it is to the byte."""
    fields = msgspec.json.decode(prepare(event).event, type=dict[str, msgspec.Raw])
    defaults = {"time": timestamp(), "source": "Dapr", "type": "com.dapr.event.sent", "specversion": "1.0"}
    traces = {} if "traceid" in fields else {"traceid": "", "traceparent": ""}
    encoded = {name: msgspec.Raw(msgspec.json.encode(value)) for name, value in {**defaults, **traces}.items()}
    placed = {
        name: msgspec.Raw(msgspec.json.encode(value)) for name, value in (("topic", topic), ("pubsubname", pubsub))
    }
    return msgspec.json.encode({"tracestate": msgspec.Raw(b'""'), **encoded, **fields, **placed}, order="sorted")
