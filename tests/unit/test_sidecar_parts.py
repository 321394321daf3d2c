"""The real sidecar's pure parts: what a refusal means, and how a trace context is kept."""

from __future__ import annotations

import asyncio
import json
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import grpc
import pytest
from dapr.proto import api_service_v1, api_v1
from google.protobuf.empty_pb2 import Empty  # type: ignore[import-untyped]  # it has no types
from grpc import StatusCode
from hypothesis import given
from hypothesis import strategies as st

from tidings.dapr.client import DaprSidecar
from tidings.dapr.errors import of_publish, of_state
from tidings.dapr.preparing import PARTITION_KEY, prepare
from tidings.errors import PublishRefused, SidecarError, SidecarUnavailable, StateConflict, StateRefused, TopicMissing
from tidings.settings import Settings

TRANSACTION = "error while executing state transaction: "


@pytest.mark.parametrize(
    ("code", "text", "kind", "expected_text"),
    [
        (StatusCode.INTERNAL, TRANSACTION + "possible etag mismatch. error from state store", StateConflict, "order"),
        (StatusCode.INTERNAL, TRANSACTION + "invalid etag value: strconv.Atoi", StateConflict, "order"),
        (StatusCode.INTERNAL, TRANSACTION + "no item was updated", StateConflict, "order"),
        (StatusCode.INTERNAL, TRANSACTION + "ERR user_script:10: failed to set key orders||k", StateConflict, "order"),
        (StatusCode.INTERNAL, TRANSACTION + "ERR user_script:6: failed to delete orders||k", StateConflict, "order"),
        (StatusCode.INTERNAL, TRANSACTION + "database is locked", SidecarUnavailable, "database is locked"),
        (StatusCode.UNAVAILABLE, "connection refused", SidecarUnavailable, "UNAVAILABLE"),
        (StatusCode.DEADLINE_EXCEEDED, "Deadline Exceeded", SidecarUnavailable, "DEADLINE_EXCEEDED"),
        (StatusCode.INVALID_ARGUMENT, "state store state is not found", SidecarUnavailable, "the component state"),
        (StatusCode.UNAUTHENTICATED, "invalid token", SidecarUnavailable, "DAPR_API_TOKEN"),
        (
            StatusCode.UNIMPLEMENTED,
            "state store state doesn't support transactions",
            SidecarUnavailable,
            "transactions",
        ),
        (StatusCode.UNKNOWN, "input key/keyPrefix 'a||b' can't contain '||'", StateRefused, "permanently"),
        (StatusCode.INTERNAL, TRANSACTION + "invalid byte sequence (SQLSTATE 22021)", StateRefused, "permanently"),
        (StatusCode.INTERNAL, TRANSACTION + "index row size 2712 (SQLSTATE 54000)", StateRefused, "permanently"),
        (StatusCode.INTERNAL, TRANSACTION + "too many connections (SQLSTATE 53300)", SidecarUnavailable, "53300"),
        (StatusCode.INTERNAL, TRANSACTION + "string or blob too big", StateRefused, "permanently"),
        (StatusCode.RESOURCE_EXHAUSTED, "received message larger than max", StateRefused, "larger than max"),
    ],
)
def test_what_a_failed_state_call_means(
    code: StatusCode, text: str, kind: type[SidecarError], expected_text: str
) -> None:
    error = of_state(code, text, "order/1", "state")
    assert type(error) is kind
    assert expected_text in str(error)
    assert "order/1" in str(error)


@pytest.mark.parametrize(
    ("code", "text", "kind", "expected_text"),
    [
        (
            StatusCode.INTERNAL,
            "error when publishing to topic t: nats: no response from stream",
            TopicMissing,
            "stream",
        ),
        (StatusCode.INTERNAL, "nats: maximum payload exceeded", PublishRefused, "raise the limit"),
        (StatusCode.RESOURCE_EXHAUSTED, "grpc: received message larger than max", PublishRefused, "raise the limit"),
        (
            StatusCode.INTERNAL,
            "message larger than configured Producer.MaxMessageBytes: 2 > 1",
            PublishRefused,
            "limit",
        ),
        (StatusCode.INTERNAL, "kafka server: Message was too large, server rejected it", PublishRefused, "limit"),
        (StatusCode.INTERNAL, "nats: timeout", SidecarUnavailable, "nats: timeout"),
        (StatusCode.UNAVAILABLE, "connection refused", SidecarUnavailable, "UNAVAILABLE"),
        (StatusCode.INVALID_ARGUMENT, "pubsub pubsub is not found", SidecarUnavailable, "the component pubsub"),
        (StatusCode.PERMISSION_DENIED, "topic is not allowed for app id", PublishRefused, "publishingScopes"),
        (StatusCode.UNAUTHENTICATED, "invalid token", SidecarUnavailable, "DAPR_API_TOKEN"),
    ],
)
def test_what_a_failed_publish_means(code: StatusCode, text: str, kind: type[SidecarError], expected_text: str) -> None:
    error = of_publish(code, text, "orders.orderPlaced.v1", "pubsub")
    assert type(error) is kind
    assert expected_text in str(error)
    assert "orders.orderPlaced.v1" in str(error)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text() | st.floats(allow_nan=False, allow_infinity=False),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=10,
)


@given(
    unread=st.dictionaries(st.text().filter(lambda name: name not in {"subject", "traceid"}), json_values),
    read=st.fixed_dictionaries(
        {"traceparent": st.just("00-a-b-01")}, optional={"subject": st.none() | st.text(), "traceid": st.none()}
    ),
    indent=st.sampled_from([None, 2]),
)
def test_only_a_missing_traceid_is_added(unread: dict[str, Any], read: dict[str, Any], indent: int | None) -> None:
    event = {**unread, **read}
    prepared = prepare(json.dumps(event, indent=indent).encode())
    assert json.loads(prepared.event) == {**event, "traceid": "00-a-b-01"}
    assert prepared.metadata == ({PARTITION_KEY: read["subject"]} if read.get("subject") else {})


@pytest.mark.parametrize("event", [b"{}", b'{"traceparent":""}', b'{"traceparent":"00-a-b-01","traceid":""}'])
def test_what_has_no_trace_or_a_traceid_stays_as_it_is(event: bytes) -> None:
    assert prepare(event).event == event


NO_EVENTS = [
    b"", b"[]", b'{"traceparent":', b'{"traceparent":1}', b'{"subject":[]}', b'{"subject":1}', b'{"traceid":{}}',
    b"\xff", b'{"subject":"\xff"}', b'{"data":' + b"[" * 9_000 + b"]" * 9_000 + b"}",
    b'{"data":' * 9_000 + b"1" + b"}" * 9_000,
]  # fmt: skip


@pytest.mark.parametrize("event", NO_EVENTS, ids=[repr(event[:20]) for event in NO_EVENTS])
def test_what_is_no_event_is_refused(event: bytes) -> None:
    with pytest.raises(PublishRefused, match="structured CloudEvents"):
        prepare(event)


@pytest.mark.parametrize(
    ("settings", "address"),
    [
        ({"dapr_grpc_port": 4000}, "127.0.0.1:4000"),
        (
            {"dapr_grpc_port": 4000, "dapr_grpc_endpoint": "sidecar.example:443?tls=true"},
            "sidecar.example:443?tls=true",
        ),
    ],
)
def test_the_environment_has_the_address_of_the_sidecar(settings: dict[str, Any], address: str) -> None:
    assert DaprSidecar.from_settings(Settings(**settings)).address == address


def test_an_address_that_is_none_is_refused_immediately() -> None:
    with pytest.raises(ValueError, match="invalid scheme"):
        DaprSidecar("ftp://127.0.0.1:1")


async def test_a_tls_endpoint_is_called_with_tls() -> None:
    async with DaprSidecar("127.0.0.1:1?tls=true", deadline=1) as sidecar:
        with pytest.raises(SidecarUnavailable):
            await sidecar.get("key")


class Slowing(api_service_v1.DaprServicer):
    """A sidecar that answers at once, to a client that is busy until after its deadline."""

    def __init__(self, client: asyncio.AbstractEventLoop) -> None:
        self.client, self.busy = client, 0.3

    def PublishEvent(self, _request: Any, _context: Any) -> Empty:  # noqa: N802 - gRPC's name
        self.client.call_soon_threadsafe(time.sleep, self.busy)
        return Empty()

    def BulkPublishEvent(self, request: Any, context: Any) -> api_v1.BulkPublishResponse:  # noqa: N802
        self.PublishEvent(request, context)
        return api_v1.BulkPublishResponse()


async def test_a_success_after_the_deadline_does_not_count_as_published() -> None:
    """At the deadline, Dapr's RabbitMQ component reports success without having published anything."""
    server, sidecar_process = grpc.server(ThreadPoolExecutor(1)), Slowing(asyncio.get_running_loop())
    api_service_v1.add_DaprServicer_to_server(sidecar_process, server)  # type: ignore[no-untyped-call]
    address = f"127.0.0.1:{server.add_insecure_port('127.0.0.1:0')}"
    server.start()
    try:
        async with DaprSidecar(address, deadline=0.2) as sidecar:
            with pytest.raises(SidecarUnavailable):
                await sidecar.publish("t", b"{}")
            results = await sidecar.publish_many("t", [b"{}", b"{}"])
            assert [type(result) for result in results] == [SidecarUnavailable] * 2
        sidecar_process.busy = 0.0
        async with DaprSidecar(address, deadline=60) as sidecar:
            await sidecar.publish("t", b"{}")
            assert await sidecar.publish_many("t", [b"{}", b"{}"]) == [None, None]
    finally:
        server.stop(None).wait()
