"""Behaviour that only the real sidecar shows: failures of daprd, brokers and stores, and the SDK's workarounds."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import closing, suppress
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
import yaml
from dapr.proto import api_service_v1, api_v1
from grpc import aio
from pydantic import SecretStr
from tests.conformance import Recorder, event, poll, subscription, unique
from tests.conformance.pubsub import TRACEPARENT
from tests.support.cancelling import cancelled, uncollected

from tidings.brokers.components import render
from tidings.brokers.jetstream import ensure_streams
from tidings.dapr import Upsert
from tidings.dapr.client import DaprSidecar
from tidings.errors import PublishRefused, SidecarError, SidecarUnavailable
from tidings.messages.envelope import CONTENT_TYPE, new_id
from tidings.settings import Settings
from tidings.testing import MemoryBroker, MemorySidecar
from tidings_cli.testing import programs
from tidings_cli.testing.fixtures import Serve, StartDaprd
from tidings_cli.testing.programs import Ports

pytestmark = [pytest.mark.real]
SETS = Path(__file__).parents[2] / "components"
Connect = Callable[..., DaprSidecar]


@pytest_asyncio.fixture
async def connect() -> AsyncIterator[Connect]:
    opened: list[DaprSidecar] = []

    def open_one(address: str, **how: Any) -> DaprSidecar:
        opened.append(DaprSidecar(address, **how))
        return opened[-1]

    yield open_one
    for sidecar in opened:
        await sidecar.close()


@pytest.fixture
def on_nats(nats: str, tmp_path: Path) -> list[dict[str, Any]]:
    values = {"NATS_URL": nats, "STATE_FILE": str(tmp_path / "state.db")}
    return [*render(SETS / "nats", values), *render(SETS / "state-sqlite", values)]


async def poll_async(holds: Callable[[], Awaitable[bool]]) -> None:
    async with asyncio.timeout(60):
        while not await holds():  # noqa: ASYNC110 - readiness is polled, as by a probe
            await asyncio.sleep(0.02)


TRACED = {
    "apiVersion": "dapr.io/v1alpha1",
    "kind": "Configuration",
    "metadata": {"name": "traced"},
    "spec": {"tracing": {"samplingRate": "1", "stdout": True}},
}


@pytest.mark.parametrize("traced", [False, True])
async def test_the_events_own_traceparent_arrives_because_publish_repeats_it(
    traced: bool, nats: str, on_nats: list[dict[str, Any]], daprd: StartDaprd, serve: Serve, tmp_path: Path
) -> None:
    """If the first two become TRACEPARENT in both cases, Dapr keeps it: `prepare` need not add `traceid`."""
    app, topic = Recorder(), unique("orders.orderPlaced")
    await ensure_streams(nats, [topic])
    served = await serve(app)
    (tmp_path / "traced.yaml").write_text(yaml.safe_dump(TRACED))
    flags = ["--config", str(tmp_path / "traced.yaml")] if traced else []
    resources = [*on_nats, subscription(topic, "/a")]
    process = await daprd("orders", resources=resources, app_port=served.port, flags=flags)
    async with aio.insecure_channel(process.address) as channel, DaprSidecar(process.address) as sidecar:
        stub = api_service_v1.DaprStub(channel)  # type: ignore[no-untyped-call]
        for identity, metadata in (("plain", []), ("with-metadata", [("traceparent", TRACEPARENT)])):
            data = event(id=identity, traceparent=TRACEPARENT, tracestate="a=1").encode()
            request = api_v1.PublishEventRequest(
                pubsub_name="pubsub", topic=topic, data=data, data_content_type=CONTENT_TYPE
            )
            await stub.PublishEvent(request, metadata=metadata)
        await sidecar.publish(topic, event(id="ours", traceparent=TRACEPARENT, tracestate="a=1").encode())
    await poll(lambda: len(app.received) == 3)
    arrived = {item["id"]: item["traceparent"] for item in app.at("/a")}
    assert arrived["plain"] != TRACEPARENT
    assert (arrived["with-metadata"] == TRACEPARENT) is not traced
    assert arrived["ours"] == TRACEPARENT
    assert {item["tracestate"] for item in app.at("/a")} == {"a=1"}


async def test_a_sidecar_that_hangs_costs_the_deadline_and_no_more(
    on_nats: list[dict[str, Any]], daprd: StartDaprd, connect: Connect
) -> None:
    process = await daprd("orders", resources=on_nats)
    sidecar, patient = connect(process.address, deadline=0.5), connect(process.address, deadline=60)
    await poll_async(sidecar.ready)  # half a second may be too short on a busy machine
    await process.suspend()
    calls: list[Callable[[], Awaitable[Any]]] = [
        lambda: sidecar.get("k"),
        lambda: sidecar.publish("t", b"{}"),
        lambda: sidecar.transact([Upsert("k", b"1")]),
    ]
    for call in calls:
        with pytest.raises(SidecarUnavailable, match="DEADLINE_EXCEEDED"):  # gRPC's own word: the call was ended by it
            await call()
    process.resume()
    assert await patient.get("k2") is None
    await poll_async(sidecar.ready)


async def test_a_sidecar_that_comes_back_is_used_again_immediately(
    on_nats: list[dict[str, Any]], daprd: StartDaprd, connect: Connect
) -> None:
    process = await daprd("orders", resources=on_nats)
    sidecar = connect(process.address)
    await sidecar.transact([Upsert("k", b"1")])
    process.kill()
    for _ in range(20):  # each refusal would lengthen gRPC's own pause, up to two minutes
        with pytest.raises(SidecarUnavailable, match="UNAVAILABLE"):
            await sidecar.get("k")
        await asyncio.sleep(0.05)
    await process.start()
    await poll_async(sidecar.ready)  # within less than the two minutes that gRPC would pause by itself
    item = await sidecar.get("k")
    assert item is not None
    assert item.value == b"1"


async def test_the_token_is_sent_and_a_missing_one_is_named(
    on_nats: list[dict[str, Any]], daprd: StartDaprd, connect: Connect
) -> None:
    process = await daprd("orders", resources=on_nats, environment={"DAPR_API_TOKEN": "right"})
    settings = Settings(dapr_grpc_port=process.grpc_port, dapr_api_token=SecretStr("right"), tidings_deadline=3)
    async with DaprSidecar.from_settings(settings) as sidecar:
        assert await sidecar.ready()
        await sidecar.transact([Upsert("k", b"1")])
    for token in (None, "wrong"):
        stranger = connect(process.address, token=token)
        assert not await stranger.ready()
        with pytest.raises(SidecarError, match="DAPR_API_TOKEN"):
            await stranger.get("k")
        with pytest.raises(SidecarUnavailable, match="DAPR_API_TOKEN"):  # no event's fault: none may be dead-lettered
            await stranger.publish("t", b"{}")


@pytest.mark.parametrize(("size", "expected_text"), [(1_100_000, "maximum payload"), (5_000_000, "larger than max")])
async def test_what_is_too_large_is_refused_and_the_limit_is_named(
    nats: str, on_nats: list[dict[str, Any]], daprd: StartDaprd, connect: Connect, size: int, expected_text: str
) -> None:
    topic = unique("orders.orderPlaced")
    await ensure_streams(nats, [topic])
    sidecar = connect((await daprd("orders", resources=on_nats)).address)
    with pytest.raises(PublishRefused, match=rf"{expected_text}.*limit"):
        await sidecar.publish(topic, event(subject="x" * size).encode())


async def test_a_topic_that_is_not_this_apps_is_refused(
    nats: str, on_nats: list[dict[str, Any]], daprd: StartDaprd, connect: Connect
) -> None:
    own, theirs = unique("orders.orderPlaced"), unique("payments.paymentTaken")
    await ensure_streams(nats, [own, theirs])
    scopes = {"name": "publishingScopes", "value": f"orders={own};payments={theirs}"}
    on_nats[0]["spec"]["metadata"].append(scopes)
    sidecar = connect((await daprd("orders", resources=on_nats)).address)
    await sidecar.publish(own, event().encode())
    with pytest.raises(PublishRefused, match=rf"{theirs}.*publishingScopes"):
        await sidecar.publish(theirs, event().encode())


async def test_a_broker_that_is_missing_is_unavailable_and_works_again_when_it_is_back(
    ports: Ports, tmp_path: Path, daprd: StartDaprd, connect: Connect
) -> None:
    port, topic = ports.take(), unique("orders.orderPlaced")
    with programs.nats_server(tmp_path, port) as url:
        await ensure_streams(url, [topic])
        resources = render(SETS / "nats", {"NATS_URL": url})
        process = await daprd("orders", resources=resources)
        sidecar = connect(process.address, deadline=1)
        await connect(process.address).publish(topic, event().encode())
    with pytest.raises(SidecarUnavailable):
        await sidecar.publish(topic, event().encode())
    with programs.nats_server(tmp_path, port):
        began = time.monotonic()
        while True:
            try:
                await sidecar.publish(topic, event().encode())
                break
            except SidecarUnavailable:
                assert time.monotonic() - began < 60


async def test_a_store_that_is_missing_is_unavailable(
    ports: Ports, tmp_path: Path, daprd: StartDaprd, connect: Connect
) -> None:
    with programs.redis_server(tmp_path, ports.take()) as address:
        resources = render(SETS / "state-redis", {"REDIS_HOST": address, "REDIS_PASSWORD": ""})
        process = await daprd("orders", resources=resources)
        sidecar = connect(process.address, deadline=0.7)
        await connect(process.address).transact([Upsert("k", b"1")])
    for call in (sidecar.get("k"), sidecar.get_many(["k"]), sidecar.transact([Upsert("k", b"2")])):
        with pytest.raises(SidecarUnavailable, match=r"k.*in state"):
            await call


async def test_jetstream_deduplicates_ids_and_redis_does_not(
    nats: str, redis: str, on_nats: list[dict[str, Any]], daprd: StartDaprd, serve: Serve, connect: Connect
) -> None:
    """So a relay that is unsure may publish again; and a second dead letter or replay of an event within JetStream's
    duplicate window is swallowed."""
    on_redis = render(SETS / "redis", {"REDIS_HOST": redis, "REDIS_PASSWORD": ""})
    for resources, expected in ((on_nats, ["last", "once"]), (on_redis, ["last", "once", "once"])):
        app, topic = Recorder(), unique("orders.orderPlaced")
        await ensure_streams(nats, [topic])
        served = await serve(app)
        process = await daprd("orders", resources=[*resources, subscription(topic, "/a")], app_port=served.port)
        sidecar = connect(process.address)
        for identity in ("once", "once", "last"):
            await sidecar.publish(topic, event(id=identity).encode())
        # Redis brings several at once, in any order; JetStream one after the other, so "last" comes last.
        await poll(lambda app=app, ids=expected: len(app.ids("/a")) >= len(ids) and "last" in app.ids("/a"))  # type: ignore[misc]
        assert sorted(app.ids("/a")) == expected


async def test_without_a_dead_letter_topic_the_broker_brings_it_again(
    nats: str, on_nats: list[dict[str, Any]], daprd: StartDaprd, serve: Serve, connect: Connect
) -> None:
    app, topic = Recorder(), unique("orders.orderPlaced")
    app.answers["/a"] = [(500, b""), (500, b""), (200, b"")]
    settings = on_nats[0]["spec"]["metadata"]
    settings[:] = [
        *(setting for setting in settings if setting["name"] != "ackWait"),
        {"name": "ackWait", "value": "1s"},
    ]
    await ensure_streams(nats, [topic])
    served = await serve(app)
    process = await daprd("orders", resources=[*on_nats, subscription(topic, "/a")], app_port=served.port)
    await connect(process.address).publish(topic, event(id="e-1").encode())
    await poll(lambda: len(app.received) == 3)
    assert app.ids("/a") == ["e-1"] * 3


@pytest.mark.parametrize(("status", "times"), [("200 OK", 1), ("503 Service Unavailable", 2)])
async def test_a_truncated_success_counts_as_success(
    status: str,
    times: int,
    nats: str,
    on_nats: list[dict[str, Any]],
    daprd: StartDaprd,
    connect: Connect,
    ports: Ports,
) -> None:
    """So RETRY is not safe in the body of a 200: an app that dies in the middle of it would lose the event."""
    delivered: list[bytes] = []

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with closing(writer), suppress(asyncio.IncompleteReadError):  # daprd looks whether the port is open, too
            await respond(await reader.readuntil(b"\r\n\r\n"), writer)

    async def respond(head: bytes, writer: asyncio.StreamWriter) -> None:
        if head.startswith(b"POST /a"):
            delivered.append(head)
            first = len(delivered) == 1
            body = b'{"status":"RET' if first else b'{"status":"SUCCESS"}'
            length = 18 if first else len(body)
            writer.write(
                f"HTTP/1.1 {status if first else '200 OK'}\r\ncontent-length: {length}\r\n\r\n".encode() + body
            )
        else:
            writer.write(b"HTTP/1.1 404 Not Found\r\ncontent-length: 0\r\n\r\n")
        await writer.drain()

    topic, port = unique("orders.orderPlaced"), ports.take()
    settings = on_nats[0]["spec"]["metadata"]
    settings[:] = [
        *(setting for setting in settings if setting["name"] != "ackWait"),
        {"name": "ackWait", "value": "1s"},
    ]
    await ensure_streams(nats, [topic])
    async with await asyncio.start_server(answer, "127.0.0.1", port):
        process = await daprd("orders", resources=[*on_nats, subscription(topic, "/a")], app_port=port)
        await connect(process.address).publish(topic, event(id="e-1").encode())
        await poll(lambda: len(delivered) == times)
        await asyncio.sleep(3)
        assert len(delivered) == times


async def test_the_twin_sends_the_very_same_body(
    nats: str, on_nats: list[dict[str, Any]], daprd: StartDaprd, serve: Serve, connect: Connect
) -> None:
    real, twin, topic = Recorder(), Recorder(), unique("orders.orderPlaced")
    await ensure_streams(nats, [topic])
    served, broker = await serve(real), MemoryBroker()
    process = await daprd("orders", resources=[*on_nats, subscription(topic, "/a")], app_port=served.port)
    broker.attach("orders", twin, [subscription(topic, "/a")])
    sent = [
        event(id="bare", time="2026-11-23T12:00:00Z").encode(),
        event(id="traced", time="2026-11-23T12:00:00Z", traceparent=TRACEPARENT, tracestate="a=1").encode(),
        b'{"id": "poor", "time": "2026-11-23T12:00:00Z", "data": {"total": 12.50, "big": 12345678901234567890}}',
        b'{"id": "overwritten", "time": "x", "topic": "t", "pubsubname": "p", "traceid": "", "specversion": "0.3"}',
    ]
    for item in sent:
        await connect(process.address).publish(topic, item)
        await MemorySidecar("orders", broker).publish(topic, item)
    await broker.settle()
    await poll(lambda: len(real.received) == len(sent))
    assert sorted(twin.received, key=str) == sorted(real.received, key=str)


async def test_cancelled_calls_leave_nothing_behind(
    nats: str, on_nats: list[dict[str, Any]], daprd: StartDaprd, connect: Connect
) -> None:
    """The sidecar's SQLite keeps no lock, and a transaction that was cancelled is made whole or not at all."""
    topic = unique("orders.orderPlaced")
    await ensure_streams(nats, [topic])
    sidecar = connect((await daprd("orders", resources=on_nats)).address)
    bodies = [event().encode() for _ in range(3)]
    await sidecar.get("a")
    tasks = len(asyncio.all_tasks())

    async def work() -> None:
        number = new_id().encode()
        await sidecar.transact([Upsert("a", number), Upsert("b", number)])
        await sidecar.get_many(["a", "b"])
        await sidecar.publish(topic, bodies[0])
        await sidecar.publish_many(topic, bodies)

    async def nothing_is_locked() -> None:
        await sidecar.transact([Upsert("c", b"1")])
        async with asyncio.timeout(60):  # the sidecar may be about to commit what was cancelled here
            while len({item.value for item in (await sidecar.get_many(["a", "b"])).values()}) > 1:  # noqa: ASYNC110 - it tells nobody
                await asyncio.sleep(0.01)
        await poll(lambda: len(asyncio.all_tasks()) <= tasks)

    with uncollected():
        assert await cancelled(work, 500, concurrency=25, after_round=nothing_is_locked)


async def test_after_cancelled_reads_no_one_reads_stale_data(
    on_nats: list[dict[str, Any]], daprd: StartDaprd, connect: Connect
) -> None:
    """If daprd observes the cancellation, SQLite keeps a read transaction open, and reads return stale documents."""
    sidecar = connect((await daprd("orders", resources=on_nats)).address)
    chance, keys = random.Random(1), ["a", *(f"none-{number}" for number in range(500))]
    for number in range(100):
        await sidecar.transact([Upsert("a", str(number).encode())])
        reads = [asyncio.ensure_future(sidecar.get_many(keys)) for _ in range(5)]
        await asyncio.sleep(chance.uniform(0.0, 0.02))
        for read in reads:
            read.cancel()
        await asyncio.gather(*reads, return_exceptions=True)
        result = await asyncio.gather(*(sidecar.get("a") for _ in range(10)))
        assert {item.value if item else None for item in result} == {str(number).encode()}
