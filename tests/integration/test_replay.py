"""Dead letters and replays on real sidecars and a real broker, with the archive killed in the middle."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import httpx2
import msgspec
import pytest
import pytest_asyncio
from tests.support.bad_events import publish
from tests.support.brokers import available
from typer.testing import CliRunner, Result

from tidings.messages.envelope import Envelope, new_id, timestamp
from tidings_cli.commands import app
from tidings_cli.up.run import Run, running
from tidings_cli.up.system import Options

ROOT = Path(__file__).parents[2]
ONLY = ("orders", "menu", "payments", "kitchen", "pickup", "tracking", "archive")
RATE = 40  # events a second: a replay lasts for some seconds
ENVIRONMENT = {"KITCHEN_PACE": "0", "PICKUP_PACE": "0", "ARCHIVE_REPLAY_RATE": str(RATE), "ARCHIVE_REPLAY_SETTLE": "1"}
PATIENCE = 90.0  # seconds; what a killed sidecar had taken comes back after the broker's ackWait of 20 s
ORDERS = 8
TIMELINE = 12  # events of an order that is picked up; some come after its completion
CANCELLED = "orders.orderCancelled.v1"

pytestmark = [pytest.mark.real, pytest.mark.timeout(400), pytest.mark.asyncio(loop_scope="module")]


@pytest_asyncio.fixture(scope="module", loop_scope="module", params=["nats", "kafka"])
async def run(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Run]:
    options = Options(
        only=ONLY,
        free_ports=True,
        fresh=True,
        run_dir=tmp_path_factory.mktemp("run"),
        environment=ENVIRONMENT,
        broker=available(request.param),
    )
    async with running(ROOT, options) as started:
        yield started


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def http() -> AsyncIterator[httpx2.AsyncClient]:
    async with httpx2.AsyncClient(timeout=60, trust_env=False) as client:
        yield client


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def orders(run: Run, http: httpx2.AsyncClient) -> list[str]:
    """Complete orders, and wait until all of their events are in the archive and the read model."""
    await eventually(lambda: menu_is_known(run, http))
    body = {
        "customer": {"name": "Ada", "email": "ada@pizza.example"},
        "fulfilment": "pickup",
        "lines": [{"sku": (await http.get(f"{run.url('menu')}/menu")).json()["items"][0]["sku"], "quantity": 1}],
        "paymentToken": "tok_ok",
    }
    placed: list[str] = []

    async def all_placed() -> bool:
        """Place the orders; they are refused until `orders` knows the menu, too."""
        answer = await http.post(f"{run.url('orders')}/orders", json=body)
        if answer.is_success:
            placed.append(answer.json()["orderId"])
        return len(placed) == ORDERS

    await eventually(all_placed)
    await eventually(lambda: all_settled(run, http, placed))
    return placed


async def menu_is_known(run: Run, http: httpx2.AsyncClient) -> bool:
    counts = (await http.get(f"{run.url('archive')}/counts")).json()
    return bool(counts.get("menu.recipePublished.v1"))


async def all_settled(run: Run, http: httpx2.AsyncClient, ids: list[str]) -> bool:
    counts = (await http.get(f"{run.url('archive')}/counts")).json()
    orders = [await tracked(run, http, item) for item in ids]
    complete = [order.get("stage") == "completed" and len(order["timeline"]) == TIMELINE for order in orders]
    return all(complete) and counts.get("payments.paymentSettled.v1") == len(ids)


async def tracked(run: Run, http: httpx2.AsyncClient, order_id: str) -> dict[str, Any]:
    body: dict[str, Any] = (await http.get(f"{run.url('tracking')}/track/{order_id}")).json()
    return body


async def eventually(holds: Callable[[], Awaitable[object]], patience: float = PATIENCE) -> None:
    end = time.monotonic() + patience
    seen: object = None
    while time.monotonic() < end:
        try:
            if seen := await holds():
                return
        except (httpx2.TransportError, ValueError) as error:  # a service that was killed
            seen = error
        await asyncio.sleep(0.05)
    pytest.fail(f"it did not come about within {patience:g} s: {seen}")


async def tidings(run: Run, *words: str) -> Result:
    """Run a command against the archive; it blocks, so it has a thread."""
    return await asyncio.to_thread(CliRunner().invoke, app, [*words, "--archive", run.url("archive"), "-o", "json"])


async def listed(run: Run, *words: str) -> list[dict[str, Any]]:
    result = await tidings(run, "dlq", "list", *words)
    assert result.exit_code == 0, result.output
    content: list[dict[str, Any]] = json.loads(result.stdout)
    return content


async def test_all_published_events_are_in_the_archive_and_in_the_timeline(
    run: Run, http: httpx2.AsyncClient, orders: list[str]
) -> None:
    async def archived(order_id: str) -> list[dict[str, Any]]:
        answer = (await http.get(f"{run.url('archive')}/events", params={"subject": order_id})).json()
        result: list[dict[str, Any]] = answer["events"]
        return result

    for order_id in orders:
        shown = {item["id"] for item in (await tracked(run, http, order_id))["timeline"]}
        assert len(shown) == TIMELINE

        async def complete(order_id: str = order_id, shown: frozenset[str] = frozenset(shown)) -> bool:
            return shown <= {item["id"] for item in await archived(order_id)}

        await eventually(complete)  # neither of the two waits for the other
        assert len({item["correlationid"] for item in await archived(order_id)}) == 1


async def test_the_read_model_is_rebuilt_although_the_archive_is_killed_on_the_way(
    run: Run, http: httpx2.AsyncClient, orders: list[str]
) -> None:
    before = [await tracked(run, http, order) for order in orders]
    began = (await http.post(f"{run.url('tracking')}/rebuild")).json()
    archive = f"{run.url('archive')}/replays/{began['replayId']}"

    async def under_way() -> bool:
        return bool((await http.get(archive)).json().get("sent"))

    await eventually(under_way)
    await run.kill("archive")
    await run.wait_ready("archive")

    async def rebuilt() -> bool:
        state = (await http.get(f"{run.url('tracking')}/rebuild")).json()
        return bool(state["generation"] == began["building"])

    await eventually(rebuilt)
    replay = (await http.get(archive)).json()
    assert (replay["state"], replay["sent"]) == ("completed", replay["matched"])
    assert replay["sent"] > RATE

    async def same() -> bool:
        return [await tracked(run, http, order) for order in orders] == before

    await eventually(same)


async def test_what_succeeded_before_changes_nothing_when_it_is_replayed(
    run: Run, http: httpx2.AsyncClient, orders: list[str]
) -> None:
    async def counts() -> dict[str, int]:
        body: dict[str, int] = (await http.get(f"{run.url('archive')}/counts")).json()
        return {name: count for name, count in body.items() if not name.startswith("archive.")}

    async def settled() -> bool:
        first = await counts()
        await asyncio.sleep(1)
        return await counts() == first

    await eventually(settled)
    before = await counts()
    for consumer in ("pickup", "payments"):
        result = await tidings(run, "replay", consumer, "--type", "orders.*", "--type", "kitchen.pizzaBoxed", "--yes")
        assert result.exit_code == 0, result.output
        assert json.loads(result.stdout)["sent"] >= 3 * len(orders)
    await asyncio.sleep(2)  # the time in which they would have told something new
    assert await counts() == before
    assert await listed(run) == []


async def test_a_dead_letter_is_replayed_to_who_failed_and_is_open_again_when_it_fails_again(
    run: Run, http: httpx2.AsyncClient
) -> None:
    """Twice under one id within JetStream's window for duplicates: neither replay nor second failure may be dropped."""
    poison = Envelope(
        id=new_id(), source="orders", type="orders.orderCancelled", specversion="1.0", version="1", subject="o-poison",
        time=timestamp(), data=msgspec.Raw(b'{"orderId": 7}'),
    )  # fmt: skip
    # As a stranger does who uses neither the kit nor a sidecar.
    await publish(run.state.broker, run.broker_url, CANCELLED, [poison.encode()])

    async def failures() -> dict[str, int]:
        return {item["subscription"]: item["failures"] for item in await listed(run, "--type", "orders.orderCancelled")}

    await eventually(lambda: holds(failures, {"pickup-order-cancelled", "kitchen-order-cancelled"}))
    [letter] = await listed(run, "--subscription", "pickup-order-cancelled")
    assert "orderId" in letter["reason"]
    assert letter["eventId"] == poison.id

    result = await tidings(run, "dlq", "replay", str(letter["number"]), "--yes")
    assert result.exit_code == 1, "the true result: it has failed again"
    [replayed] = json.loads(result.stdout)
    assert (replayed["state"], replayed["outcome"]) == ("open", "failed")
    assert (await failures())["pickup-order-cancelled"] == 2
    assert (await failures())["kitchen-order-cancelled"] == 1
    result = await tidings(run, "dlq", "discard", "--type", "orders.orderCancelled", "--reason", "poison", "--yes")
    assert result.exit_code == 0, result.output
    assert await listed(run) == []
    shown = json.loads((await tidings(run, "dlq", "show", str(letter["number"]))).stdout)
    assert [deed["action"] for deed in shown["audit"]] == ["discarded", "failed again", "sent"]


async def holds(failures: Callable[[], Awaitable[dict[str, int]]], expected: set[str]) -> bool:
    return expected <= set(await failures())


async def test_an_order_is_pushed_to_who_watches_it(run: Run, http: httpx2.AsyncClient, orders: list[str]) -> None:
    async with http.stream("GET", f"{run.url('tracking')}/track/{orders[0]}/stream") as answer:
        async for line in answer.aiter_lines():
            if line.startswith("data: "):
                assert json.loads(line.removeprefix("data: ")) == await tracked(run, http, orders[0])
                break
