"""Real daprd on real brokers and stores, held to the suite that the in-memory twin passes too."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from tests.conformance import PubSubConformance, StateConformance, poll
from tests.conformance.support import Check
from tests.support.brokers import values_of

from tidings.brokers.components import render
from tidings.brokers.jetstream import ensure_streams
from tidings.brokers.kafka import ensure_topics
from tidings.brokers.rabbitmq import ensure_queues
from tidings.dapr.client import DaprSidecar
from tidings.testing.asgi import App
from tidings_cli.testing.fixtures import Serve, StartDaprd
from tidings_cli.testing.programs import Daprd, Ports
from tidings_cli.testing.programs import daprd as prepare

pytestmark = [pytest.mark.real]
SETS = Path(__file__).parents[2] / "components"
IN_MEMORY = {
    kind: {
        "apiVersion": "dapr.io/v1alpha1",
        "kind": "Component",
        "metadata": {"name": kind},
        "spec": {"type": f"{kind}.in-memory", "version": "v1", "metadata": []},
    }
    for kind in ("pubsub", "state")
}


class DaprState:
    """Two apps' sidecars on one store."""

    def __init__(self, orders: Daprd, kitchen: Daprd, *, atomic: bool) -> None:
        self.atomic = atomic
        self.sidecar = DaprSidecar(orders.address)
        self._kitchen = DaprSidecar(kitchen.address)
        self._lost = DaprSidecar(orders.address, state="nowhere")
        self._unreachable = DaprSidecar("127.0.0.1:1")

    def other(self) -> DaprSidecar:
        return self._kitchen

    def without_store(self) -> DaprSidecar:
        return self._lost

    def unreachable(self) -> DaprSidecar:
        return self._unreachable

    async def wait(self, seconds: float) -> None:
        await asyncio.sleep(seconds)

    async def close(self) -> None:
        for sidecar in (self.sidecar, self._kitchen, self._lost, self._unreachable):
            await sidecar.close()


def _values(store: str, request: pytest.FixtureRequest, folder: Path) -> dict[str, str]:
    if store == "state-sqlite":
        return {"STATE_FILE": str(folder / "state.db")}
    if store == "state-redis":
        return {"REDIS_HOST": request.getfixturevalue("redis"), "REDIS_PASSWORD": ""}
    return {"POSTGRES_URL": request.getfixturevalue("postgres")}


@pytest_asyncio.fixture(scope="class", loop_scope="class", params=["state-sqlite", "state-redis", "state-postgres"])
async def pair(
    request: pytest.FixtureRequest, ports: Ports, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[tuple[str, Daprd, Daprd]]:
    folder = tmp_path_factory.mktemp(request.param)
    components = [*render(SETS / request.param, _values(request.param, request, folder)), IN_MEMORY["pubsub"]]
    apps = [prepare(name, folder / name, ports, resources=components) for name in ("orders", "kitchen")]
    for app in apps:
        await app.start()
    yield request.param, apps[0], apps[1]
    for app in apps:
        await app.stop()


class TestDaprState(StateConformance):
    @pytest_asyncio.fixture
    async def world(self, pair: tuple[str, Daprd, Daprd]) -> AsyncIterator[DaprState]:
        store, orders, kitchen = pair
        world = DaprState(orders, kitchen, atomic=store != "state-redis")
        yield world
        await world.close()


class DaprPubSub:
    """An app with its sidecar, started once the test says what is subscribed to."""

    def __init__(self, broker: str, where: str, daprd: StartDaprd, serve: Serve) -> None:
        self.creates_topics = broker in {"redis", "rabbitmq"}
        self._broker, self._where = broker, where
        self._components = render(SETS / broker, values_of(broker, where))
        self._daprd = daprd
        self._serve = serve
        self._open: list[DaprSidecar] = []

    def _sidecar(self, **how: Any) -> DaprSidecar:
        self._open.append(DaprSidecar(self._process.address, **how))
        return self._open[-1]

    async def run(
        self, app: App, subscriptions: Iterable[dict[str, Any]], resiliency: dict[str, Any] | None, token: str
    ) -> None:
        expected = list(subscriptions)
        topics = [item["spec"]["topic"] for item in expected]
        if self._broker == "nats":
            await ensure_streams(self._where, topics)
        elif self._broker == "kafka":
            await asyncio.to_thread(ensure_topics, self._where, topics)
        elif self._broker == "rabbitmq":
            await asyncio.to_thread(ensure_queues, self._where, [("orders", item) for item in expected])
        self._app = await self._serve(app)
        self._process = await self._daprd(
            "orders",
            resources=[*self._components, IN_MEMORY["state"], *expected, *([resiliency] if resiliency else [])],
            app_port=self._app.port,
            environment={"APP_API_TOKEN": token} if token else None,
        )
        self.sidecar = self._sidecar()

    async def app_down(self) -> None:
        await self._app.stop()

    async def app_up(self) -> None:
        await self._app.start()

    async def until(self, check: Check) -> None:
        await poll(check)

    def without_pubsub(self) -> DaprSidecar:
        return self._sidecar(pubsub="nowhere")

    async def close(self) -> None:
        for sidecar in self._open:
            await sidecar.close()


class TestDaprPubSub(PubSubConformance):
    @pytest_asyncio.fixture(params=["nats", "redis", "rabbitmq", "kafka"])
    async def world(self, request: pytest.FixtureRequest, daprd: StartDaprd, serve: Serve) -> AsyncIterator[DaprPubSub]:
        world = DaprPubSub(request.param, request.getfixturevalue(request.param), daprd, serve)
        yield world
        await world.close()
