"""An in-memory implementation of `tidings.dapr.Sidecar`."""

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
    """One app's sidecar. Sidecars with the same broker form one system.

        broker = MemoryBroker()
        orders = MemorySidecar("orders", broker)
        broker.attach("kitchen", kitchen_app, plan.apps["kitchen"].subscriptions)
        await orders.publish("orders.orderConfirmed.v2", envelope.encode())
        await broker.settle()

    To restart a service in a test, give it a new sidecar on the same broker and store. `Faults` describes how to make a
    sidecar fail. `pubsub` and `state` name the components that it uses, as with `DaprSidecar`.
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
        self.secrets: dict[tuple[str, str], dict[str, str]] = {}
        """Secrets by names of the secret store component and of the secret."""

    async def publish(self, topic: str, data: bytes, *, metadata: Mapping[str, str] | None = None) -> None:
        """Publish one CloudEvent; metadata, which is for real brokers, is ignored."""
        del metadata
        with self.around("publish"):
            if self.pubsub != self.broker.pubsub:
                raise SidecarUnavailable(f"{topic}: no pub/sub component is named {self.pubsub}")
            self.broker.publish(topic, as_daprd_sends(data, self.broker.pubsub, topic))

    async def publish_many(self, topic: str, events: Sequence[bytes]) -> list[SidecarError | None]:
        """Publish several CloudEvents; each counts as a `publish` for injected faults."""
        results: list[SidecarError | None] = []
        for event in events:
            try:
                await self.publish(topic, event)
            except SidecarError as error:
                results.append(error)
            else:
                results.append(None)
        return results

    async def get(self, key: str) -> Item | None:
        """Return the item of a key, or None."""
        with self.around("get"):
            return self.store.read(self._owned(key))

    async def get_many(self, keys: Sequence[str]) -> dict[str, Item]:
        """Return the items of the keys that exist."""
        with self.around("get_many"):
            return {key: item for key in keys if (item := self.store.read(self._owned(key))) is not None}

    async def transact(self, operations: Iterable[Operation]) -> None:
        """Write several keys in one state transaction."""
        with self.around("transact"):
            owned = [replace(operation, key=self._owned(operation.key)) for operation in operations]
            if any(isinstance(operation, Upsert) and not operation.value for operation in owned):
                raise StateRefused(f"{owned}: an empty value cannot be stored")
            self.store.transact(owned)

    async def get_secret(self, store: str, name: str) -> dict[str, str]:
        """Return a secret from `secrets`, by key."""
        with self.around("get_secret"):
            if (store, name) not in self.secrets:
                raise SidecarUnavailable(f"secret {name} in {store}: MemorySidecar.secrets has no such secret")
            return dict(self.secrets[store, name])

    async def ready(self, *, state: bool = True) -> bool:
        """Return True if the sidecar is up and has the component, and the state store if it is needed."""
        return not self.down and self.pubsub == self.broker.pubsub and (not state or self.state == self.store.name)

    async def close(self) -> None:
        """Do nothing: there is no connection."""

    def _owned(self, key: str) -> str:
        if self.state != self.store.name:
            raise SidecarUnavailable(f"{key}: no state store is named {self.state}")
        if _SEPARATOR in key:
            raise StateRefused(f"{key}: a key cannot hold {_SEPARATOR!r}, which Dapr puts between app id and key")
        return f"{self.app_id}{_SEPARATOR}{key}"


def as_daprd_sends(event: bytes, pubsub: str, topic: str) -> bytes:
    """Complete a CloudEvent as daprd does on publishing; its data stays unchanged to the byte."""
    fields = msgspec.json.decode(prepare(event).event, type=dict[str, msgspec.Raw])
    defaults = {"time": timestamp(), "source": "Dapr", "type": "com.dapr.event.sent", "specversion": "1.0"}
    traces = {} if "traceid" in fields else {"traceid": "", "traceparent": ""}
    encoded = {name: msgspec.Raw(msgspec.json.encode(value)) for name, value in {**defaults, **traces}.items()}
    placed = {
        name: msgspec.Raw(msgspec.json.encode(value)) for name, value in (("topic", topic), ("pubsubname", pubsub))
    }
    return msgspec.json.encode({"tracestate": msgspec.Raw(b'""'), **encoded, **fields, **placed}, order="sorted")
