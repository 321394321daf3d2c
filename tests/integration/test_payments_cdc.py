"""payments with PAYMENTS_OUTBOX=cdc, as a process: its sidecar, NATS and a PostgreSQL whose log it reads."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx2
import msgspec
import pytest
import pytest_asyncio
from tests.conformance import Recorder, subscription, unique
from tests.support.postgres import own_database

from tidings.brokers.components import render
from tidings.brokers.jetstream import ensure_streams
from tidings.messages.envelope import Envelope, new_id
from tidings_cli.testing.fixtures import Serve, StartDaprd
from tidings_cli.testing.programs import Daprd, Ports, end

pytestmark = [pytest.mark.real, pytest.mark.timeout(240)]
SETS = Path(__file__).parents[2] / "components"
AUTHORISED, SETTLED = "payments.paymentAuthorised.v1", "payments.paymentSettled.v1"


class Payments:
    """The service, which can be killed and started again, and the events that a subscribed app received."""

    def __init__(self, database_url: str, sidecar: Daprd, ports: Ports, recorder: Recorder) -> None:
        port, self.metrics = ports.take(), ports.take()
        self.url = f"http://127.0.0.1:{port}"
        self.recorder = recorder
        self.command = [sys.executable, "-m", "uvicorn", "--port", str(port), "--log-level", "warning"]
        self.environment = {
            **os.environ,
            "PAYMENTS_OUTBOX": "cdc",
            "PAYMENTS_DATABASE_URL": database_url,
            "DAPR_GRPC_ENDPOINT": sidecar.address,
            "TIDINGS_INSTANCE": "payments-0",
            "TIDINGS_METRICS_PORT": str(self.metrics),
        }

    @contextmanager
    def process(self, how: signal.Signals) -> Iterator[None]:
        running = subprocess.Popen([*self.command, "payments.main:app"], env=self.environment)
        try:
            yield
        finally:
            end(running, how)

    async def send(self, kind: str, order: str, **data: object) -> None:
        """Deliver as its sidecar would, until it is acknowledged."""
        body = msgspec.Raw(msgspec.json.encode({"orderId": order, **data}))
        attributes = {"id": new_id(), "source": "orders", "type": kind, "specversion": "1.0", "version": "1"}
        event = Envelope(**attributes, data=body).encode()
        async with asyncio.timeout(60), httpx2.AsyncClient(trust_env=False, timeout=60) as client:
            while True:
                try:
                    if (await client.post(f"{self.url}/events/{kind}.v1", content=event)).is_success:
                        return
                except httpx2.TransportError:
                    pass
                await asyncio.sleep(0.1)

    async def pay(self, order: str) -> None:
        await self.send("payments.takePayment", order, customerId="c", amountCents=1000, paymentToken="tok_ok")

    async def metric(self, name: str) -> float:
        async with httpx2.AsyncClient(timeout=60, trust_env=False) as client:
            lines = (await client.get(f"http://127.0.0.1:{self.metrics}/metrics")).text.splitlines()
        return float(next(line for line in lines if line.startswith(f"{name} ")).split()[1])

    async def wait_published(self, topic: str, orders: list[str]) -> None:
        """Wait for exactly one event id per order."""
        async with asyncio.timeout(60):
            while {item["subject"] for item in self.recorder.at(f"/{topic}")} != set(orders):  # noqa: ASYNC110 - HTTP
                await asyncio.sleep(0.1)
        assert len(set(self.recorder.ids(f"/{topic}"))) == len(orders)


@pytest_asyncio.fixture
async def payments(logical: str, nats: str, daprd: StartDaprd, serve: Serve, ports: Ports) -> AsyncIterator[Payments]:
    recorder, pubsub = Recorder(), render(SETS / "nats", {"NATS_URL": nats})
    listener = await serve(recorder)
    await ensure_streams(nats, [AUTHORISED, SETTLED])
    resources: list[dict[str, Any]] = [*pubsub, *(subscription(topic, f"/{topic}") for topic in (AUTHORISED, SETTLED))]
    await daprd(unique("listener"), resources=resources, app_port=listener.port)
    sidecar = await daprd(unique("payments"), resources=pubsub)
    async with own_database(logical) as url:
        yield Payments(url, sidecar, ports, recorder)


async def test_what_was_committed_is_published_after_a_kill_and_the_log_is_let_go(payments: Payments) -> None:
    orders = [f"o-{number}" for number in range(30)]
    with payments.process(signal.SIGKILL):
        await asyncio.gather(*map(payments.pay, orders[:20]))
    with payments.process(signal.SIGTERM):
        await asyncio.gather(*map(payments.pay, orders[20:]))
        await payments.wait_published(AUTHORISED, orders)
        await asyncio.gather(*(payments.send("orders.orderCompleted", order) for order in orders))
        await payments.wait_published(SETTLED, orders)
        async with asyncio.timeout(60):
            while not await payments.metric("tidings_outbox_slot_left_bytes"):  # noqa: ASYNC110 - HTTP
                await asyncio.sleep(0.2)  # both are measured together, once a second
            while await payments.metric("tidings_outbox_slot_lag_bytes") > 1_000_000:  # noqa: ASYNC110 - HTTP
                await asyncio.sleep(0.2)
        assert await payments.metric("tidings_outbox_slot_left_bytes") < 112_000_000
