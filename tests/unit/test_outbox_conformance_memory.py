"""The strategies on the sidecar's twin and on SQLite, held to the suite that real programs are held to."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.conformance.outbox import OutboxConformance
from tests.conformance.worlds import DaprWorld, DirectWorld, TableWorld, World
from tests.support.cancelling import cancelled_deliveries


class TestLog(OutboxConformance):
    @pytest.fixture(params=[True, False], ids=["atomic", "redis-like"])
    def world(self, request: pytest.FixtureRequest) -> World:
        return World(atomic=request.param)


class TestTable(OutboxConformance):
    @pytest.fixture
    def world(self, tmp_path: Path) -> World:
        return TableWorld(f"sqlite:///{tmp_path / 'shop.db'}")


class TestDirect(OutboxConformance):
    @pytest.fixture
    def world(self) -> World:
        return DirectWorld()


class TestDapr(OutboxConformance):
    @pytest.fixture
    def world(self) -> World:
        return DaprWorld()


@pytest.mark.parametrize("strategy", ["log", "table", "direct", "dapr"])
async def test_cancelled_deliveries_lose_and_double_nothing(strategy: str, tmp_path: Path) -> None:
    worlds = {"log": World, "direct": DirectWorld, "dapr": DaprWorld}
    world = TableWorld(f"sqlite:///{tmp_path / 'shop.db'}") if strategy == "table" else worlds[strategy]()
    await cancelled_deliveries(world, 100)
