"""The menu between its sidecar and its API, in memory, with a kitchen that reports which ingredients have run out."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack
from datetime import UTC, datetime
from typing import Any

import httpx2
import pytest

from menu.api import ERRORS, router
from menu.handlers import handlers
from menu.use_cases import initial_recipes, open_menu
from tidings import Event, Service, event
from tidings.context import Context, request
from tidings.fastapi import create_app
from tidings.messages.delivery import DeliveryContext
from tidings.messages.events import message_type
from tidings.testing import MemoryBroker, MemorySidecar, MemoryStore, lifespan

NOW = datetime(2026, 3, 14, 18, tzinfo=UTC)
TOPICS = ("kitchen.ingredientRanOut.v1", "kitchen.ingredientDelivered.v1")


@event("kitchen.ingredientRanOut", subject="ingredient")
class IngredientRanOut(Event):
    ingredient: str
    ran_out_at: datetime


@event("kitchen.ingredientDelivered", subject="ingredient")
class IngredientDelivered(Event):
    ingredient: str
    delivered_at: datetime


class Shop:
    """A menu on its sidecar's twin."""

    def __init__(self, broker: MemoryBroker, store: MemoryStore) -> None:
        self.broker = broker
        self.sidecar = MemorySidecar("menu", broker, store)
        self.service = Service("menu", handlers, sidecar=self.sidecar, startup_hook=open_menu)
        self.app = create_app(self.service, [router], errors=ERRORS)
        self.api = httpx2.AsyncClient(transport=httpx2.ASGITransport(self.app), base_url="http://menu")

    async def until_idle(self) -> None:
        while not await self.service.ready() or self.service.outbox.depth:  # noqa: ASYNC110 - asked, as by a probe
            await asyncio.sleep(0)

    async def publish_events(self, *events: Event) -> None:
        for item in events:
            context = Context(DeliveryContext("kitchen", request()), NOW, 1_000_000)
            context.publish(item)
            await self.sidecar.publish(message_type(type(item)).topic, bytes(context.outgoing[0].event))
        await self.broker.settle()

    async def asked(self, method: str, path: str, **body: Any) -> httpx2.Response:
        answer = await self.api.request(method, path, json=body or None)
        await self.broker.settle()
        return answer

    async def sold(self) -> list[str]:
        """Return the available items."""
        items = (await self.api.get("/menu")).json()["items"]
        return [item["sku"] for item in items if item["available"]]

    def facts(self, name: str) -> list[dict[str, Any]]:
        """Return each fact once: a second replica may publish a fact of the first again, under the same id."""
        return list({item["id"]: item["data"] for item in self.broker.events(f"menu.{name}.v1")}.values())


@pytest.fixture
async def start() -> AsyncIterator[Callable[[], Any]]:
    broker, store = MemoryBroker(), MemoryStore()
    async with AsyncExitStack() as stack:

        async def run() -> Shop:
            shop = Shop(broker, store)
            await stack.enter_async_context(lifespan(shop.app))
            stack.push_async_callback(shop.api.aclose)
            subscriptions = [
                {"spec": {"pubsubname": "pubsub", "topic": topic, "routes": {"default": f"/events/{topic}"}}}
                for topic in TOPICS
            ]
            broker.attach("menu", shop.app, subscriptions)
            broker.while_busy(shop.until_idle)
            await shop.broker.settle()
            return shop

        yield run


@pytest.fixture
async def shop(start: Callable[[], Any]) -> Shop:
    result: Shop = await start()
    return result


async def test_the_opening_menu_is_published_at_the_first_start_only(start: Callable[[], Any]) -> None:
    first = await start()
    again = await start()
    published = again.facts("recipePublished")
    assert (
        [item["sku"] for item in published]
        == [initial_recipe.sku for initial_recipe in initial_recipes()]
        == await first.sold()
    )
    assert all(item["available"] and item["currency"] == "EUR" and item["priceCents"] > 0 for item in published)


async def test_what_runs_out_in_the_kitchen_is_sold_out_until_it_is_delivered(shop: Shop) -> None:
    await shop.publish_events(IngredientRanOut(ingredient="smoked-tofu", ran_out_at=NOW))
    await shop.publish_events(IngredientRanOut(ingredient="unheard-of", ran_out_at=NOW))
    assert [fact["sku"] for fact in shop.facts("itemSoldOut")] == ["tofu-teriyaki"]
    assert "tofu-teriyaki" not in await shop.sold()
    refused = await shop.asked("POST", "/menu/tofu-teriyaki/restocked")
    assert (refused.status_code, "smoked-tofu" in refused.json()["detail"]) == (409, True)
    await shop.publish_events(IngredientDelivered(ingredient="smoked-tofu", delivered_at=NOW.replace(hour=19)))
    await shop.publish_events(
        IngredientRanOut(ingredient="smoked-tofu", ran_out_at=NOW.replace(minute=30))
    )  # late news
    assert [fact["sku"] for fact in shop.facts("itemRestocked")] == ["tofu-teriyaki"]
    assert "tofu-teriyaki" in await shop.sold()


async def test_the_menu_is_changed_through_its_api(shop: Shop) -> None:
    body = {"name": "Hawaii", "description": "Yes.", "priceCents": 1000, "ingredients": ["pineapple"]}
    for _ in range(2):
        put = await shop.asked("PUT", "/menu/hawaii", **body)
        assert (put.status_code, put.json()["available"], put.json()["missingIngredients"]) == (200, True, [])
    for _ in range(2):
        priced = await shop.asked("PUT", "/menu/hawaii/price", priceCents=1100)
        assert priced.json()["priceCents"] == 1100
    for path, available in (("sold-out", False), ("sold-out", False), ("restocked", True), ("restocked", True)):
        assert (await shop.asked("POST", f"/menu/hawaii/{path}")).json()["available"] is available
    assert (await shop.api.get("/menu/hawaii")).json() == priced.json()
    published = {
        name: shop.facts(name)[-1] for name in ("recipePublished", "priceChanged", "itemSoldOut", "itemRestocked")
    }
    assert {item["sku"] for item in published.values()} == {"hawaii"}
    assert [len(shop.facts(name)) for name in ("priceChanged", "itemSoldOut", "itemRestocked")] == [1, 1, 1]
    moments = [
        published["recipePublished"]["publishedAt"],
        published["priceChanged"]["changedAt"],
        published["itemSoldOut"]["since"],
    ]
    assert moments == sorted(set(moments))


GOOD = {"name": "Hawaii", "priceCents": 1000, "ingredients": ["pineapple"]}


@pytest.mark.parametrize(
    ("method", "path", "body", "status", "detail"),
    [
        ("GET", "/menu/hawaii", None, 404, "'hawaii' is not on the menu"),
        ("PUT", "/menu/hawaii/price", {"priceCents": 1}, 404, "'hawaii' is not on the menu"),
        ("POST", "/menu/hawaii/sold-out", None, 404, "'hawaii' is not on the menu"),
        ("POST", "/menu/hawaii/restocked", None, 404, "'hawaii' is not on the menu"),
        ("PUT", "/menu/Ha%20waii", GOOD, 422, "path.sku"),
        ("PUT", "/menu/hawaii", GOOD | {"priceCents": -100}, 422, "body.priceCents"),
        ("PUT", "/menu/hawaii", GOOD | {"priceCents": 9.5}, 422, "body.priceCents"),
        ("PUT", "/menu/hawaii", GOOD | {"ingredients": []}, 422, "body.ingredients"),
        ("PUT", "/menu/hawaii", GOOD | {"price": 10}, 422, "body.price"),
        ("PUT", "/menu/margherita/price", {"priceCents": 0}, 422, "body.priceCents"),
    ],
)
async def test_wrong_requests_are_answered_clearly(
    shop: Shop, method: str, path: str, body: object, status: int, detail: str
) -> None:
    answer = await shop.api.request(method, path, json=body)
    assert (answer.status_code, detail in answer.json()["detail"]) == (status, True), answer.text
