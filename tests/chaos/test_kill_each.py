"""kill -9 of any service or sidecar while orders flow: every order converges, nothing is lost, nothing doubled."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import httpx2
import pytest
import pytest_asyncio
from scenarios.ordering import counts, follow, place, until_agreed

from tidings_cli.up.run import Run, running
from tidings_cli.up.system import Options
from tidings_plan.resources import contracts_folders

ROOT = Path(__file__).resolve().parents[2]
SERVICES = sorted(folder.parent.name for folder in contracts_folders(ROOT))
FAST = {"KITCHEN_PACE": "0", "PICKUP_PACE": "0", "DELIVERY_PACE": "0"}
ORDERS = 16
PATIENCE = 120.0  # seconds; what a killed sidecar had taken comes back after the broker's ackWait of 20 s

pytestmark = [pytest.mark.chaos, pytest.mark.real, pytest.mark.timeout(300), pytest.mark.asyncio(loop_scope="module")]


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def system(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Run]:
    folder = tmp_path_factory.mktemp("run")
    async with running(ROOT, Options(free_ports=True, fresh=True, run_dir=folder, environment=FAST)) as run:
        yield run


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def client() -> AsyncIterator[httpx2.AsyncClient]:
    async with httpx2.AsyncClient(timeout=10, trust_env=False) as result:
        yield result


@pytest.mark.parametrize("victim", [*SERVICES, *(f"{name}.daprd" for name in SERVICES)])
async def test_orders_converge_although_a_process_is_killed(
    system: Run, client: httpx2.AsyncClient, victim: str
) -> None:
    seed = ([*SERVICES, *(f"{name}.daprd" for name in SERVICES)]).index(victim) + 1
    before = await counts(client, system.url)
    orders = place(client, system.url, ORDERS, concurrency=4, declined_every=8, seed=seed, patience=PATIENCE)
    placing = asyncio.create_task(orders)
    await asyncio.sleep(0.5)
    await system.kill(victim)
    burst = await placing
    assert not burst.refusals
    assert len(burst.placed) == ORDERS
    published = await follow(client, system.url, burst.ids, patience=PATIENCE)
    assert {item["stage"] for item in published.values()} == {"completed", "cancelled"}
    assert await until_agreed(client, system.url, before, burst.due(), patience=PATIENCE) == []
