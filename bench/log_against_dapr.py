"""The log strategy's throughput against Dapr's own outbox: one real daprd, NATS, and SQLite or PostgreSQL below both.

Events a second from the first unit of work until the broker's stream holds the last event. Each unit of work reads and
writes a document of its own and publishes one event, on both sides through the SDK.
"""

from __future__ import annotations

import asyncio
import tempfile
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import ExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import nats
from log_strategy import SETS, TASKS, TOPIC, publish_and_save
from nats.js import JetStreamContext
from rounds import Comparison, compare

from tidings import Service
from tidings.brokers.components import render
from tidings.brokers.jetstream import ensure_streams, stream_name
from tidings.dapr.client import DaprSidecar
from tidings.messages.envelope import new_id
from tidings.outbox.dapr import DaprOutbox
from tidings_cli.testing.programs import Ports, daprd, nats_server, postgres_server, public_folder
from tidings_cli.testing.serving import Served

EVENTS, DAPR_EVENTS, OUTBOX_STORE = 500, 5, "outbox"
BROKER = "NATS JetStream, file storage, flushed every 2 min, one delivery at a time"
SETTINGS = {
    "SQLite": f"{BROKER}; SQLite, WAL, as daprd opens it; {TASKS} at a time",
    "PostgreSQL": f"{BROKER}; PostgreSQL, fsync and synchronous_commit on; {TASKS} at a time",
}
DURABLE = ("fsync=on", "synchronous_commit=on", "full_page_writes=on")
Resource = Mapping[str, Any]


async def nothing(scope: Any, receive: Any, send: Any) -> None:
    """App without subscriptions: daprd reads the outbox's internal topic only if it has an app."""
    if scope["type"] == "http":
        await receive()
        await send({"type": "http.response.start", "status": 404, "headers": [(b"content-length", b"0")]})
        await send({"type": "http.response.body", "body": b""})


def with_outbox(state: Resource) -> Resource:
    """Return a second component for the same store, with Dapr's outbox."""
    outbox = {"outboxPublishPubsub": "pubsub", "outboxPublishTopic": TOPIC}
    more = [{"name": name, "value": value} for name, value in outbox.items()]
    return {
        **state,
        "metadata": {"name": OUTBOX_STORE},
        "spec": {**state["spec"], "metadata": [*state["spec"]["metadata"], *more]},
    }


@asynccontextmanager
async def started(service: Service) -> AsyncIterator[Service]:
    await service.start()
    yield service
    await service.stop()


async def published(js: JetStreamContext) -> int:
    return int((await js.stream_info(stream_name(TOPIC))).state.messages)


async def throughput(service: Service, js: JetStreamContext, events: int) -> float:
    """Return events per second."""
    before, began = await published(js), time.perf_counter()
    items = iter([new_id() for _ in range(events)])

    async def work() -> None:
        for item in items:
            await service.execute(publish_and_save, item)

    await asyncio.gather(*(work() for _ in range(TASKS)))
    async with asyncio.timeout(60):
        while (count := await published(js) - before) < events:  # noqa: ASYNC110 - the stream has no notification
            await asyncio.sleep(0.01)
    seconds = time.perf_counter() - began
    assert count == events, "duplicates would make a side look faster"
    return events / seconds


async def measured(address: str, js: JetStreamContext, store: str) -> Comparison:
    publishing = DaprSidecar(address, state=OUTBOX_STORE)

    def runtimes(sidecar: Any, _: object) -> DaprOutbox:
        return DaprOutbox(sidecar, {TOPIC: publishing})

    log = Service("shop", sidecar=DaprSidecar(address))
    dapr = Service("shop", sidecar=DaprSidecar(address), outbox=runtimes)
    async with started(log), started(dapr):
        return await compare(
            f"log strategy throughput, {store}",
            {"log": lambda: throughput(log, js, EVENTS), "Dapr's outbox": lambda: throughput(dapr, js, DAPR_EVENTS)},
            unit="events/s",
            bar="at least 100x",
            target=100,
            settings=SETTINGS[store],
        )


async def on(store: str, url: str, state: Resource, folder: Path, ports: Ports) -> Comparison:
    """Measure on a daprd of its own."""
    app = Served(nothing, ports.take())
    await app.start()
    resources = [*render(SETS / "nats", {"NATS_URL": url}), state, with_outbox(state)]
    runtime = daprd("shop", folder / f"daprd-{store}", ports, resources=resources, app_port=app.port)
    await runtime.start()
    client = await nats.connect(url)
    try:
        return await measured(runtime.address, client.jetstream(), store)
    finally:
        await client.close()
        await runtime.stop()
        await app.stop()


async def run() -> list[Comparison]:
    """Measure on both stores."""
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        ports, public = stack.enter_context(Ports()), stack.enter_context(public_folder())
        (folder / "nats").mkdir()
        url = stack.enter_context(nats_server(folder / "nats", ports.take()))
        await ensure_streams(url, [TOPIC, f"defaultshop{TOPIC}outbox"])
        postgres = stack.enter_context(postgres_server(public, ports.take(), *DURABLE))
        (sqlite,) = render(SETS / "state-sqlite", {"STATE_FILE": str(folder / "state.db")})
        (relational,) = render(SETS / "state-postgres", {"POSTGRES_URL": postgres})
        return [
            await on("SQLite", url, sqlite, folder, ports),
            await on("PostgreSQL", url, relational, folder, ports),
        ]


if __name__ == "__main__":
    for comparison in asyncio.run(run()):
        print(comparison.row())
