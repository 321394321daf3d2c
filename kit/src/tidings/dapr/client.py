"""The Dapr sidecar, over gRPC."""

import asyncio
from collections.abc import Iterable, Mapping, Sequence
from types import TracebackType
from typing import Any, Self

from dapr.conf.helpers import GrpcEndpoint
from dapr.proto import api_v1, common_v1
from grpc import StatusCode

from tidings.conventions import TOKEN_HEADER
from tidings.dapr import errors
from tidings.dapr.channel import CallFailed, GrpcChannel
from tidings.dapr.port import Item, Operation, Upsert
from tidings.dapr.preparing import prepare
from tidings.errors import PublishRefused, SidecarError, StateRefused
from tidings.messages.envelope import CONTENT_TYPE
from tidings.settings import Settings

FIRST_WRITE = common_v1.StateOptions.CONCURRENCY_FIRST_WRITE
MAX_MESSAGE = 4 * 1024 * 1024
_NOT_REACHED = {StatusCode.UNAVAILABLE, StatusCode.DEADLINE_EXCEEDED}  # single calls would fail as well
_METHOD = "/dapr.proto.runtime.v1.Dapr/"


class DaprSidecar:
    """Publishing, state and secrets through daprd.

    It uses the generated messages of the `dapr` package instead of `DaprClient`, whose constructor blocks for up to
    60 s while no sidecar is available, and whose transactions support neither options nor a time to live.

    State calls continue if their caller is cancelled. daprd would pass a cancellation on to the store, where SQLite
    then keeps a read transaction open on a pooled connection, and later reads on that connection return stale data: see
    docs/upstream/sqlite-cancelled-read.md.

    daprd 1.18 changes events as follows (read in its source and verified by the conformance suite): all attributes of a
    structured CloudEvent are kept, including extensions; `topic` and `pubsubname` are added; `time`, `source`, `type`,
    `specversion` and `tracestate` are added if missing. `traceparent` is replaced by daprd's own, or removed if daprd
    does not trace, **unless the event carries `traceid`**. Therefore `publish` copies `traceparent` to `traceid`. A
    `traceparent` in the gRPC metadata does not help: where daprd traces, the event arrives with the id of daprd's own
    span. The `data` is decoded and encoded again: keys are sorted, numbers keep their digits.

    Redis has different transactions than the other stores: an `insert` is sent as an update of version -1, because
    daprd ignores the first-write option within Redis transactions and would overwrite the key; and keys without a time
    to live are made persistent, because Redis would keep the previous one.

    Args:
        address: Such as `127.0.0.1:50001`, or any value of DAPR_GRPC_ENDPOINT, including TLS.
        token: Sent as `dapr-api-token` with every call.
        pubsub: Name of the pub/sub component.
        state: Name of the state store component.
        deadline: Timeout of a call in seconds.
        max_message: Maximum size of a message in bytes; daprd's own limit is 4 MiB (`--max-body-size`).

    Raises:
        ValueError: The address is not a gRPC endpoint.

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
        metadata = {TOKEN_HEADER: token} if token else {}
        self._channel = GrpcChannel(GrpcEndpoint(address), metadata, deadline=deadline, max_message=max_message)
        self._redis: bool | None = None

    @classmethod
    def from_settings(cls, settings: Settings) -> Self:
        """Create a client for the sidecar that the environment names."""
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
        """Publish one CloudEvent; return once the broker has acknowledged it.

        Raises:
            SidecarUnavailable: The sidecar or broker is unavailable or did not answer in time; the event may have been
                published.
            PublishRefused: The component is unknown, the topic forbidden for this app or missing, or the event too
                large.

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
            await self._call("PublishEvent", request)
        except CallFailed as error:
            raise errors.of_publish(error.code, error.details, topic, self.pubsub) from error

    async def publish_many(self, topic: str, events: Sequence[bytes]) -> list[SidecarError | None]:
        """Publish several CloudEvents in one call, in no particular order; return an error or None for each.

        daprd (1.18, bulkPublishEvent) does not report over gRPC which events of a failed call failed. They are then
        published one by one, with the same ids.
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
            await self._call("BulkPublishEvent", request)
        except CallFailed as error:
            if error.code in _NOT_REACHED:
                failure = errors.of_publish(error.code, error.details, topic, self.pubsub)
                return [failure] * len(events)
            return await asyncio.gather(*(self._attempt(topic, event) for event in events))
        except PublishRefused:  # one of them is not a CloudEvent
            return await asyncio.gather(*(self._attempt(topic, event) for event in events))
        return [None] * len(events)

    async def _attempt(self, topic: str, event: bytes) -> SidecarError | None:
        try:
            await self.publish(topic, event)
        except SidecarError as error:
            return error
        return None

    async def get(self, key: str) -> Item | None:
        """Return the item of a key, or None.

        Raises:
            SidecarUnavailable: The sidecar or store is unavailable or did not answer in time.
            SidecarError: The component is unknown, or Dapr rejects the key.

        """
        request = api_v1.GetStateRequest(store_name=self.state, key=key)
        try:
            response = api_v1.GetStateResponse.FromString(await self._call("GetState", request))
        except CallFailed as error:
            raise self._state_error(error, [key]) from error
        return Item(response.data, response.etag) if response.etag else None

    async def get_many(self, keys: Sequence[str]) -> dict[str, Item]:
        """Return the items of the keys that exist.

        Raises:
            SidecarUnavailable: The sidecar or store is unavailable or did not answer in time, or a key could not be
                read.
            SidecarError: The component is unknown, or Dapr rejects a key.

        """
        if not keys:
            return {}
        request = api_v1.GetBulkStateRequest(store_name=self.state, keys=keys, parallelism=0)
        try:
            response = api_v1.GetBulkStateResponse.FromString(await self._call("GetBulkState", request))
        except CallFailed as error:
            raise self._state_error(error, keys) from error
        for item in response.items:
            if item.error:
                raise errors.of_state(StatusCode.INTERNAL, item.error, item.key, self.state)
        return {item.key: Item(item.data, item.etag) for item in response.items if item.etag}

    async def transact(self, operations: Iterable[Operation]) -> None:
        """Write several keys in one state transaction.

        Raises:
            StateConflict: The condition of an etag or an `insert` does not hold. SQLite and PostgreSQL have written
                nothing; Redis has written the other operations (see docs/decisions/0003).
            SidecarUnavailable: The outcome is unknown.
            SidecarError: The component is unknown, Dapr rejects a key, or a value is empty.

        """
        operations = list(operations)
        if not operations:
            return
        redis = await self._on_redis()
        request = api_v1.ExecuteStateTransactionRequest(
            storeName=self.state, operations=[_operation(operation, redis=redis) for operation in operations]
        )
        try:
            await self._call("ExecuteStateTransaction", request)
        except CallFailed as error:
            raise self._state_error(error, [operation.key for operation in operations]) from error

    async def get_secret(self, store: str, name: str) -> dict[str, str]:
        """Return the texts of a secret in a secret store, by key.

        Raises:
            SidecarUnavailable: The sidecar or store is unavailable, has no such secret, or forbids this app to read it.

        """
        request = api_v1.GetSecretRequest(store_name=store, key=name)
        try:
            response = api_v1.GetSecretResponse.FromString(await self._call("GetSecret", request))
        except CallFailed as error:
            raise errors.of_secret(error.code, error.details, name, store) from error
        return dict(response.data)

    async def ready(self, *, state: bool = True) -> bool:
        """Return True if the sidecar answers and has loaded the pub/sub component, and the store if `state` is set."""
        try:
            loaded = await self._components()
        except SidecarError:
            return False
        return self.pubsub in loaded and (not state or self.state in loaded)

    async def close(self) -> None:
        """Close the connection; the next call opens a new one."""
        await self._channel.close()

    def _call(self, method: str, request: Any) -> asyncio.Future[bytes]:
        return self._channel.call(_METHOD + method, request.SerializeToString())

    async def _components(self) -> dict[str, str]:
        """Return the types of the loaded components by name."""
        try:
            metadata = api_v1.GetMetadataResponse.FromString(
                await self._call("GetMetadata", api_v1.GetMetadataRequest())
            )
        except CallFailed as error:
            raise self._state_error(error, ["the metadata"]) from error
        return {component.name: component.type for component in metadata.registered_components}

    async def _on_redis(self) -> bool:
        if self._redis is None:
            loaded = await self._components()
            if self.state not in loaded:
                return False  # daprd reports the error, and the component may be loaded later
            self._redis = loaded[self.state] == "state.redis"
        return self._redis

    def _state_error(self, error: CallFailed, keys: Sequence[str]) -> SidecarError:
        return errors.of_state(error.code, error.details, ", ".join(keys), self.state)


def _operation(operation: Operation, *, redis: bool) -> api_v1.TransactionalStateOperation:
    etag, options, metadata = operation.etag, None, dict[str, str]()
    if isinstance(operation, Upsert):
        metadata.update(operation.metadata or {})
        if not operation.value:  # daprd passes it on as nil, which PostgreSQL stores as NULL
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
