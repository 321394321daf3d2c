"""The log strategy on real sidecars: each of three state stores and each of two brokers in one suite."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
import pytest_asyncio
from tests.conformance import Recorder, subscription, unique
from tests.conformance.outbox import OutboxConformance
from tests.conformance.shop import TOPIC
from tests.support.cancelling import cancelled_deliveries
from tests.support.realworld import RealWorld

from tidings.brokers.components import render
from tidings.brokers.jetstream import ensure_streams
from tidings.dapr.client import DaprSidecar
from tidings_cli.testing.fixtures import Serve, StartDaprd

pytestmark = [pytest.mark.real, pytest.mark.timeout(300)]
SETS = Path(__file__).parents[2] / "components"
PAIRS = [("nats", "state-sqlite"), ("redis", "state-redis"), ("nats", "state-postgres")]
"""The strategy uses broker and store one after the other, in calls that do not know of each other."""


class LogWorld(RealWorld):
    """One whose lanes can be looked into."""

    async def left(self) -> list[str]:
        """Return the lanes in the directory, which stay while they hold something or their instance lives."""
        sidecar = DaprSidecar(self.address)
        try:
            items: list[str] = []
            item = await sidecar.get("outbox/lanes")
            for lane in [] if item is None else _lanes(item.value):
                items += await sidecar.get_many([f"outbox/{lane}/{number}" for number in range(16)])
            return items
        finally:
            await sidecar.close()


def _lanes(value: bytes) -> list[str]:
    return list(msgspec.json.decode(value)["lanes"])


def one_after_the_other(component: dict[str, Any]) -> dict[str, Any]:
    """Let Redis bring events in their order, as JetStream does, so that the suite sees in which they were published."""
    settings = component["spec"]["metadata"]
    slow = [{**setting, "value": "1"} if setting["name"] == "concurrency" else setting for setting in settings]
    return (
        component
        if component["spec"]["type"] != "pubsub.redis"
        else {**component, "spec": {**component["spec"], "metadata": slow}}
    )


class TestLog(OutboxConformance):
    @pytest_asyncio.fixture(params=PAIRS, ids="-".join)
    async def world(
        self, request: pytest.FixtureRequest, daprd: StartDaprd, serve: Serve, tmp_path: Path
    ) -> AsyncIterator[LogWorld]:
        broker, store = request.param
        where = request.getfixturevalue(broker)
        values = {"NATS_URL": where, "REDIS_HOST": where, "REDIS_PASSWORD": ""}
        values["STATE_FILE"] = str(tmp_path / "state.db")
        if store == "state-postgres":
            values["POSTGRES_URL"] = request.getfixturevalue("postgres")
        pubsub = render(SETS / broker, values)
        if store == "state-redis":
            values["REDIS_HOST"] = request.getfixturevalue("redis")
        if broker == "nats":
            await ensure_streams(where, [TOPIC])
        recorder = Recorder()
        app = await serve(recorder)
        watching = [*map(one_after_the_other, pubsub), subscription(TOPIC, "/watch")]
        await daprd(unique("watcher"), resources=watching, app_port=app.port)
        shop = await daprd(unique("shop"), resources=[*pubsub, *render(SETS / store, values)])
        yield LogWorld(shop.address, recorder)

    async def test_cancelled_deliveries_lose_and_double_nothing(self, world: LogWorld) -> None:
        await cancelled_deliveries(world, 60)
