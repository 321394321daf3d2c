"""`spec.bulk`, all the way: the plan's Subscription in a real sidecar on Redis, one POST, an answer for each event."""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from tests.conformance import poll

from tidings import Event, Handlers, Rejected, Service, event
from tidings.brokers.components import render
from tidings.conventions import IGNORED_PATH
from tidings.dapr.client import DaprSidecar
from tidings.fastapi import create_app
from tidings.messages.envelope import new_id
from tidings.testing import MemorySidecar
from tidings_cli.testing.fixtures import Serve, StartDaprd
from tidings_plan import plan
from tidings_plan.resources import Inventory, parse_resource

pytestmark = [pytest.mark.real, pytest.mark.timeout(120)]
SETS = Path(__file__).parents[2] / "components"
NAME = f"shop.item{new_id()[-6:]}Sold"
EVENTS, POISON, ONCE_MORE, UNWANTED = 200, 7, 11, 13


@event(NAME)
class Sold(Event):
    number: int


class Till(Event):
    sold: tuple[int, ...] = ()


def planned() -> Any:
    meta = {"apiVersion": "tidings.dev/v1alpha1"}
    kind = {"type": NAME, "owner": {"team": "t"}, "producers": ["shop"], "versions": [{"name": "v1", "schema": {}}]}
    manifest = {
        "events": [
            {"type": NAME, "versions": ["v1"], "filters": [{"not": {"exact": {"data.number": UNWANTED}}}]},
        ],
        "consumer": {"appId": "till"},
        "bulk": {"maxMessages": 25, "maxAwait": "50ms"},
    }
    inventory = Inventory()
    for name, spec in (("EventType", kind), ("EventSubscription", manifest)):
        resource, findings = parse_resource({**meta, "kind": name, "metadata": {"name": "sold"}, "spec": spec})
        assert resource is not None, findings
        inventory.put(resource)
    return plan(inventory).apps["till"]


class Recording:
    """Hands every delivery on, and keeps the ids of each by path."""

    def __init__(self, app: Any) -> None:
        self.app = app
        self.deliveries: list[tuple[str, list[int]]] = []

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        body = bytearray()

        async def received() -> Any:
            message = await receive()
            body.extend(message.get("body", b""))
            if body and not message.get("more_body") and scope["path"].startswith("/events/"):
                content = json.loads(body)
                entries = [entry["event"] for entry in content["entries"]] if "entries" in content else [content]
                self.deliveries.append((scope["path"], [entry["data"]["number"] for entry in entries]))
            return message

        await self.app(scope, received, send)


async def test_every_event_of_a_delivery_has_its_own_answer(redis: str, daprd: StartDaprd, serve: Serve) -> None:
    handlers, tries, lists = Handlers(), Counter[int](), []

    @handlers.batch(Sold)
    async def handle(events: list[Sold], context: Any) -> None:
        numbers = [item.number for item in events]
        lists.append(numbers)
        await asyncio.sleep(0.002)  # a store takes its time: meanwhile others come
        till = await context.load(Till, "main") or Till()
        if POISON in numbers:
            raise Rejected("poison")
        if ONCE_MORE in numbers and len(numbers) == 1:
            tries[ONCE_MORE] += 1
        if ONCE_MORE in numbers and tries[ONCE_MORE] < 2:
            raise ValueError("not yet")
        context.save("main", Till(sold=(*till.sold, *numbers)))

    app_plan, memory = planned(), MemorySidecar("till")
    service = Service("till", handlers, sidecar=memory, policy=app_plan.policy)
    app = Recording(create_app(service))
    served = await serve(app)
    resources = [*render(SETS / "redis", {"REDIS_HOST": redis, "REDIS_PASSWORD": ""})]
    resources += [*app_plan.subscriptions, app_plan.resiliency]
    process = await daprd("till", resources=resources, app_port=served.port)

    async with DaprSidecar(process.address) as sidecar:
        bodies = [
            json.dumps({
                "id": f"{NAME}-{number}", "source": "t", "type": NAME, "specversion": "1.0", "version": "1",
                "datacontenttype": "application/json", "data": {"number": number},
            }).encode()
            for number in range(EVENTS)
        ]  # fmt: skip
        assert await sidecar.publish_many(f"{NAME}.v1", bodies) == [None] * EVENTS

    async def sold(_: None, context: Any) -> list[int]:
        return sorted((await context.load(Till, "main") or Till()).sold)

    expected = [number for number in range(EVENTS) if number not in (POISON, UNWANTED)]
    async with asyncio.timeout(60):
        while await service.execute(sold, None) != expected:  # noqa: ASYNC110 - asked, as by a user
            await asyncio.sleep(0.1)

    def delivered() -> Counter[int]:
        return Counter(number for _, numbers in app.deliveries for number in numbers)

    await poll(lambda: delivered().keys() == {*range(EVENTS)} and memory.broker.events("deadletter.till"))
    await asyncio.sleep(1)  # what was answered wrongly would come again
    assert await service.execute(sold, None) == expected
    [letter] = memory.broker.events("deadletter.till")
    assert (letter["data"]["number"], letter["failurereason"]) == (POISON, "poison")
    assert delivered() == Counter(dict.fromkeys(range(EVENTS), 1)), "what failed was retried from the outbox"
    assert [UNWANTED] in [numbers for path, numbers in app.deliveries if path == IGNORED_PATH]
    assert max(len(numbers) for _, numbers in app.deliveries) > 5
    assert max(map(len, lists)) > 5, "a delivery of many is one list for who takes lists"
