"""Bad input, through real sidecars and the real APIs: each a clear answer, and nothing lost."""

from __future__ import annotations

import asyncio
import json
import random
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx2
import pytest
import pytest_asyncio
from scenarios.ordering import an_order, follow, place

from tidings.messages.envelope import Envelope, new_id
from tidings_cli.up.run import Run, running
from tidings_cli.up.system import Options

ROOT = Path(__file__).resolve().parents[2]
FAST = {"KITCHEN_PACE": "0", "PICKUP_PACE": "0", "DELIVERY_PACE": "0"}
TOPIC = "orders.orderConfirmed.v2"

pytestmark = [pytest.mark.real, pytest.mark.timeout(240), pytest.mark.asyncio(loop_scope="module")]


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def system(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Run]:
    folder = tmp_path_factory.mktemp("run")
    options = Options(free_ports=True, fresh=True, run_dir=folder, environment=FAST)
    async with running(ROOT, options) as run:
        yield run


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def client(system: Run) -> AsyncIterator[httpx2.AsyncClient]:
    async with httpx2.AsyncClient(timeout=60, trust_env=False) as result:
        await place(result, system.url, 1)  # the menu has arrived
        yield result


def order(**changes: Any) -> dict[str, Any]:
    return {**an_order(0, {"margherita": 950}, random.Random(1)), **changes}


def lines(quantity: Any, **more: Any) -> list[dict[str, Any]]:
    return [{"sku": "margherita", "quantity": quantity, **more}]


@pytest.mark.parametrize(
    ("body", "named"),
    [
        (order(lines=[]), "1 to 100 pizzas"),
        (order(lines=lines(0)), "quantity"),
        (order(lines=lines(-1)), "quantity"),
        (order(lines=lines(10_000)), "quantity"),
        (order(lines=lines(1, unitPriceCents=-950)), "unitPriceCents"),
        (order(lines=lines("many")), "quantity"),
        (order(lines=[{"sku": "no-such-pizza", "quantity": 1}]), "no-such-pizza"),
        (order(fulfilment="teleport"), "fulfilment"),
        (order(fulfilment="delivery"), "address"),
        (order(customer={"name": "Ada", "email": "nowhere"}), "email"),
        ([], "body"),
    ],
)
async def test_an_order_that_makes_no_sense_is_refused_by_field(
    system: Run, client: httpx2.AsyncClient, body: Any, named: str
) -> None:
    answer = await client.post(f"{system.url('orders')}/orders", json=body)
    assert answer.status_code in (409, 422)
    assert answer.headers["content-type"] == "application/problem+json"
    assert named in answer.text


async def test_an_order_that_is_no_json_is_refused(system: Run, client: httpx2.AsyncClient) -> None:
    headers = {"Content-Type": "application/json"}
    answer = await client.post(f"{system.url('orders')}/orders", content=b'{"customer":', headers=headers)
    assert answer.status_code == 422
    assert "JSON" in answer.text


async def publish(system: Run, client: httpx2.AsyncClient, body: bytes, topic: str = TOPIC) -> httpx2.Response:
    """Publish through a real sidecar without the SDK, as a careless producer would."""
    headers = {"Content-Type": "application/cloudevents+json", "dapr-api-token": system.state.dapr_api_token}
    url = f"{system.url('orders.daprd')}/v1.0/publish/pubsub/{topic}"
    return await client.post(url, content=body, headers=headers)


def confirmed(data: Any = None, **attributes: str) -> dict[str, Any]:
    standard = {
        "id": new_id(), "source": "careless", "type": "orders.orderConfirmed", "specversion": "1.0", "version": "2",
        "datacontenttype": "application/json",
    }  # fmt: skip
    example = ROOT / "services/orders/contracts/examples/orders.orderConfirmed.v2.json"
    return {**standard, **attributes, "data": json.loads(example.read_text()) if data is None else data}


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"data": {"orderId": 7}}, "orderId"),
        ({"data": {"fulfilment": "pickup"}}, "missing required field"),
        ({"data": "no object"}, "Expected `object`"),
        ({"version": "9"}, "no handler"),
        ({"version": ""}, "no version"),
        ({"type": "orders.orderForgotten"}, "no handler"),
    ],
)
async def test_an_event_that_cannot_be_read_is_kept_with_its_reason(
    system: Run, client: httpx2.AsyncClient, change: dict[str, Any], reason: str
) -> None:
    event = {**confirmed(), **change}
    assert (await publish(system, client, json.dumps(event).encode())).status_code == 204
    letter = await dead_letter(system, client, event["id"], "kitchen")
    assert reason in letter["failurereason"]
    assert letter["data"] == event["data"]


async def dead_letter(system: Run, client: httpx2.AsyncClient, identity: str, app: str) -> dict[str, Any]:
    url, query = f"{system.url('archive')}/deadletters", {"eventId": identity, "app": app}
    async with asyncio.timeout(60):
        while not (result := (await client.get(url, params=query)).json()["deadLetters"]):  # noqa: ASYNC110 - asked for as a user would
            await asyncio.sleep(0.3)
    whole = await client.get(f"{url}/{result[0]['number']}")
    event: dict[str, Any] = whole.json()["event"]
    return event


async def test_an_event_too_large_for_the_broker_is_refused_immediately(
    system: Run, client: httpx2.AsyncClient
) -> None:
    event = {**confirmed(), "data": {"padding": "x" * 2_000_000}}
    answer = await publish(system, client, json.dumps(event).encode())
    assert answer.status_code == 500
    assert "payload" in answer.text


async def test_an_event_that_comes_a_second_time_is_handled_a_single_time(
    system: Run, client: httpx2.AsyncClient
) -> None:
    event = confirmed()
    event["data"] = {**event["data"], "orderId": new_id(), "fulfilment": "pickup"}
    body = json.dumps(event).encode()
    for attempt in range(3):
        # The broker itself drops a second publish of an id, so the deliveries are sent straight.
        headers = {"dapr-api-token": system.state.app_api_token}
        answer = await client.post(f"{system.url('kitchen')}/events/{TOPIC}", content=body, headers=headers)
        assert answer.json() == {"status": "SUCCESS"}, attempt
    query = {"subject": event["data"]["orderId"], "type": "kitchen.preparationStarted"}

    async def started() -> int:
        return len((await client.get(f"{system.url('archive')}/events", params=query)).json()["events"])

    async with asyncio.timeout(60):
        while not await started():  # noqa: ASYNC110 - asked for as a user would
            await asyncio.sleep(0.1)
    await asyncio.sleep(2)  # in which a second one would come
    assert await started() == 1


async def test_events_in_the_wrong_order_converge(system: Run, client: httpx2.AsyncClient) -> None:
    """A cancellation overtakes the confirmation: the kitchen never starts."""
    order_id = new_id()
    cancelled = Envelope(
        id=new_id(), source="careless", type="orders.orderCancelled", specversion="1.0", version="1", subject=order_id,
    )  # fmt: skip
    example = json.loads((ROOT / "services/orders/contracts/examples/orders.orderCancelled.v1.json").read_text())
    body = {**json.loads(cancelled.encode()), "data": {**example, "orderId": order_id}}
    assert (await publish(system, client, json.dumps(body).encode(), "orders.orderCancelled.v1")).status_code == 204
    ticket = f"{system.url('kitchen')}/tickets/{order_id}"
    async with asyncio.timeout(60):
        while (await client.get(ticket)).status_code == 404:  # noqa: ASYNC110 - asked for as a user would
            await asyncio.sleep(0.1)
    event = confirmed()
    event["data"] = {**event["data"], "orderId": order_id}
    assert (await publish(system, client, json.dumps(event).encode())).status_code == 204
    await asyncio.sleep(2)  # in which the kitchen would start
    assert (await client.get(ticket)).json()["status"] == "stopped"


async def test_after_all_that_orders_still_flow(system: Run, client: httpx2.AsyncClient) -> None:
    burst = await place(client, system.url, 6, seed=99)
    published = await follow(client, system.url, burst.ids, patience=60)
    assert {item["stage"] for item in published.values()} == {"completed"}
