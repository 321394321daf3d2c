"""The real sidecar, over gRPC."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Iterable, Mapping, Sequence
from types import TracebackType
from typing import Any, Self, TypeVar

import grpc
from dapr.common.logging import silence_grpc_aio_poller_noise
from dapr.conf.helpers import GrpcEndpoint
from dapr.proto import api_service_v1, api_v1, common_v1
from grpc.aio import AioRpcError

from tidings.dapr import errors as refusals
from tidings.dapr.port import Item, Operation, Upsert
from tidings.dapr.preparing import prepare
from tidings.errors import PublishRefused, SidecarError, StateRefused
from tidings.messages.envelope import CONTENT_TYPE
from tidings.settings import Settings

T = TypeVar("T")
FIRST_WRITE = common_v1.StateOptions.CONCURRENCY_FIRST_WRITE
MAX_MESSAGE = 4 * 1024 * 1024
_NOT_REACHED = {grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED}  # each alone would fare no better

# A sidecar is on the same machine and back within a second or two of its death: gRPC would wait for up to two minutes
# before it looks again. A proxy, which gRPC takes from the environment, is never between the two.
_CHANNEL = {
    "grpc.initial_reconnect_backoff_ms": 50,
    "grpc.min_reconnect_backoff_ms": 50,
    "grpc.max_reconnect_backoff_ms": 1_000,
    "grpc.enable_http_proxy": 0,
}


class DaprSidecar:
    """Publishing and state through daprd.

    It stands on the `dapr` package's generated gRPC client, not on its `DaprClient`: the constructor of that one
    blocks for up to 60 s while there is no sidecar, and its transactions cannot carry options or a time to live.

    One channel is enough: with two or four no more events were published (on two cores 1,500 a second one after the
    other, 6,000 with 32 at a time, 15,000 by `publish_many`).

    What daprd 1.18 does to an event on its way (read in its source and shown by the conformance suite): every
    attribute of a structured CloudEvent arrives as it was sent, extensions included; `topic` and `pubsubname` are
    added, `time`, `source`, `type`, `specversion` and `tracestate` only where they are missing. `traceparent` is
    replaced by daprd's own, or by nothing where daprd does not trace, **unless the event carries `traceid`**, so
    `publish` repeats the one as the other. A `traceparent` as gRPC metadata does not do: where daprd traces, the event
    arrives with the id of daprd's own span. The `data` is decoded and encoded again: keys are sorted, numbers keep
    their digits.

    What it does about Redis, whose transactions are not those of the other stores: an `insert` is sent as an update
    of version -1, because daprd ignores the first-write option within Redis transactions and would overwrite; and
    keys without a time to live are made persistent, because Redis would keep the former one.

    Args:
        address: Such as `127.0.0.1:50001`, or whatever DAPR_GRPC_ENDPOINT may hold, TLS included.
        token: Sent as `dapr-api-token` with every call.
        pubsub: The pub/sub component.
        state: The state store component.
        deadline: Seconds that any call may take.
        max_message: The largest message either way, in bytes; daprd's own limit is 4 MiB (`--max-body-size`).

    Raises:
        ValueError: The address is no gRPC endpoint.

    """

    def __init__(
        self,
        address: str = "127.0.0.1:50001",
        *,
        token: str | None = None,
        pubsub: str = "pubsub",
        state: str = "state",
        deadline: float = 5.0,
        max_message: int = MAX_MESSAGE,
    ) -> None:
        self.address = address
        self.pubsub = pubsub
        self.state = state
        self._how: dict[str, Any] = {"timeout": deadline, "metadata": [("dapr-api-token", token)] if token else None}
        self._max_message = max_message
        self._endpoint = GrpcEndpoint(address)
        self._opened: tuple[grpc.aio.Channel, Any] | None = None
        self._redis: bool | None = None
        self._calls: set[asyncio.Future[Any]] = set()

    @classmethod
    def from_settings(cls, settings: Settings) -> Self:
        """Reach the sidecar that the environment names."""
        token = settings.dapr_api_token
        return cls(
            settings.dapr_grpc_endpoint or f"127.0.0.1:{settings.dapr_grpc_port}",
            token=token.get_secret_value() if token else None,
            pubsub=settings.tidings_pubsub,
            state=settings.tidings_state,
            deadline=settings.tidings_deadline,
        )

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def publish(self, topic: str, data: bytes, *, metadata: Mapping[str, str] | None = None) -> None:
        """Hand one CloudEvent to the broker; returns once the broker has acknowledged it.

        Raises:
            SidecarUnavailable: No sidecar, no broker, or no answer in time; the event may or may not be out.
            PublishRefused: Unknown component, topic not allowed for this app, no stream for it, or too large.

        """
        prepared = prepare(data)
        request = api_v1.PublishEventRequest(
            pubsub_name=self.pubsub,
            topic=topic,
            data=prepared.event,
            data_content_type=CONTENT_TYPE,
            metadata={**prepared.metadata, **(metadata or {})},
        )
        try:
            await self._stub().PublishEvent(request, **self._how)
        except AioRpcError as error:
            raise refusals.of_publish(error.code(), error.details() or "", topic, self.pubsub) from error

    async def publish_many(self, topic: str, events: Sequence[bytes]) -> list[SidecarError | None]:
        """Hand several CloudEvents to the broker in one call, in no order; answers for each what went wrong.

        daprd (1.18, bulkPublishEvent) does not say over gRPC which events of a call failed: they are sent again one
        by one then, with the same ids.
        """
        if len(events) == 1:
            return [await self._attempt(topic, events[0])]
        try:
            request = api_v1.BulkPublishRequest(
                pubsub_name=self.pubsub,
                topic=topic,
                entries=[
                    api_v1.BulkPublishRequestEntry(
                        entry_id=str(number),
                        event=prepared.event,
                        content_type=CONTENT_TYPE,
                        metadata=prepared.metadata,
                    )
                    for number, prepared in enumerate(map(prepare, events))
                ],
            )
            await self._stub().BulkPublishEvent(request, **self._how)
        except AioRpcError as error:
            if error.code() in _NOT_REACHED:
                failure = refusals.of_publish(error.code(), error.details() or "", topic, self.pubsub)
                return [failure] * len(events)
            return await asyncio.gather(*(self._attempt(topic, event) for event in events))
        except PublishRefused:  # one of them is no CloudEvent
            return await asyncio.gather(*(self._attempt(topic, event) for event in events))
        return [None] * len(events)

    async def _attempt(self, topic: str, event: bytes) -> SidecarError | None:
        try:
            await self.publish(topic, event)
        except SidecarError as error:
            return error
        return None

    async def get(self, key: str) -> Item | None:
        """Read one key; None where there is nothing.

        Raises:
            SidecarUnavailable: No sidecar, no store, or no answer in time.
            SidecarError: Unknown component, or a key that Dapr does not take.

        """
        request = api_v1.GetStateRequest(store_name=self.state, key=key)
        try:
            found = await self._to_its_end(self._stub().GetState(request, **self._how))
        except AioRpcError as error:
            raise self._state_error(error, [key]) from error
        return _item(found)

    async def get_many(self, keys: Sequence[str]) -> dict[str, Item]:
        """Read many keys at once; those with nothing are left out.

        Raises:
            SidecarUnavailable: No sidecar, no store, no answer in time, or a key could not be read.
            SidecarError: Unknown component, or a key that Dapr does not take.

        """
        if not keys:
            return {}
        request = api_v1.GetBulkStateRequest(store_name=self.state, keys=keys, parallelism=0)
        try:
            found = await self._to_its_end(self._stub().GetBulkState(request, **self._how))
        except AioRpcError as error:
            raise self._state_error(error, keys) from error
        for each in found.items:
            if each.error:
                raise refusals.of_state(grpc.StatusCode.INTERNAL, each.error, each.key, self.state)
        read = {each.key: _item(each) for each in found.items}
        return {key: item for key, item in read.items() if item is not None}

    async def transact(self, operations: Iterable[Operation]) -> None:
        """Write several keys in one state transaction.

        Raises:
            StateConflict: An etag or an `insert` did not hold. SQLite and PostgreSQL have written nothing then; Redis
                has written the other operations (see docs/decisions/0003).
            SidecarUnavailable: The outcome is unknown.
            SidecarError: Unknown component, a key that Dapr does not take, or an empty value.

        """
        wanted = list(operations)
        if not wanted:
            return
        redis = await self._on_redis()
        request = api_v1.ExecuteStateTransactionRequest(
            storeName=self.state, operations=[_operation(each, redis=redis) for each in wanted]
        )
        try:
            await self._to_its_end(self._stub().ExecuteStateTransaction(request, **self._how))
        except AioRpcError as error:
            raise self._state_error(error, [each.key for each in wanted]) from error

    async def ready(self) -> bool:
        """Whether the sidecar answers and has loaded both components."""
        try:
            loaded = await self._components()
        except SidecarError:
            return False
        return {self.pubsub, self.state} <= loaded.keys()

    async def close(self) -> None:
        """Give the connection back; the next call opens another one."""
        if self._opened is not None:
            channel, self._opened = self._opened[0], None
            await channel.close()

    def _stub(self) -> Any:
        """Open the channel on first use, because it belongs to the running event loop."""
        if self._opened is None:
            channel = self._channel()
            self._opened = channel, api_service_v1.DaprStub(channel)  # type: ignore[no-untyped-call]
        return self._opened[1]

    def _channel(self) -> grpc.aio.Channel:
        silence_grpc_aio_poller_noise()
        sizes = {f"grpc.max_{way}_message_length": self._max_message for way in ("send", "receive")}
        options = list({**_CHANNEL, **sizes}.items())
        if self._endpoint.tls:
            return grpc.aio.secure_channel(self._endpoint.endpoint, grpc.ssl_channel_credentials(), options)
        return grpc.aio.insecure_channel(self._endpoint.endpoint, options)

    async def _to_its_end(self, call: Awaitable[T]) -> T:
        """Wait for a call to the state store, which goes on where this is cancelled.

        daprd passes a cancellation on to the store. SQLite's then keeps a read transaction open on a connection of its
        pool, and whoever reads through that one later sees the past: see docs/upstream/sqlite-cancelled-read.md.
        """
        task = asyncio.ensure_future(call)
        self._calls.add(task)
        task.add_done_callback(self._call_ended)
        return await asyncio.shield(task)

    def _call_ended(self, task: asyncio.Future[Any]) -> None:
        self._calls.discard(task)
        if not task.cancelled():
            task.exception()  # who waited for it has been cancelled, or has had it

    async def _components(self) -> dict[str, str]:
        """Ask for the loaded components, from name to type."""
        try:
            found = await self._stub().GetMetadata(api_v1.GetMetadataRequest(), **self._how)
        except AioRpcError as error:
            raise self._state_error(error, ["the metadata"]) from error
        return {each.name: each.type for each in found.registered_components}

    async def _on_redis(self) -> bool:
        if self._redis is None:
            loaded = await self._components()
            if self.state not in loaded:
                return False  # daprd says so better, and it may be there next time
            self._redis = loaded[self.state] == "state.redis"
        return self._redis

    def _state_error(self, error: AioRpcError, keys: Sequence[str]) -> SidecarError:
        return refusals.of_state(error.code(), error.details() or "", ", ".join(keys), self.state)


def _item(found: Any) -> Item | None:
    return Item(found.data, found.etag) if found.etag else None


def _operation(operation: Operation, *, redis: bool) -> api_v1.TransactionalStateOperation:
    etag, options, metadata = operation.etag, None, dict[str, str]()
    if isinstance(operation, Upsert):
        metadata.update(operation.metadata or {})
        if not operation.value:  # daprd makes nothing of it, and PostgreSQL takes that for NULL
            raise StateRefused(
                f"{operation.key}: an empty value cannot be stored: write {{}} or null, or delete the key"
            )
        if operation.insert:
            etag, options = ("-1", None) if redis else (None, common_v1.StateOptions(concurrency=FIRST_WRITE))
        if operation.ttl is not None or redis:
            metadata["ttlInSeconds"] = str(-1 if operation.ttl is None else operation.ttl)
    item = common_v1.StateItem(
        key=operation.key,
        value=operation.value if isinstance(operation, Upsert) else b"",
        etag=None if etag is None else common_v1.Etag(value=etag),
        options=options,
        metadata=metadata,
    )
    kind = "upsert" if isinstance(operation, Upsert) else "delete"
    return api_v1.TransactionalStateOperation(operationType=kind, request=item)
