"""The kitchen between its sidecar and its API, in memory: events in, facts out, whatever the order of arrival."""

import asyncio
import random
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack
from datetime import UTC, datetime
from itertools import permutations
from typing import Any

import httpx2
import pytest

from kitchen.api import ERRORS, router
from kitchen.commands import IndexTicket, TakeStep
from kitchen.domain import shard_keys
from kitchen.handlers import handlers, index_ticket, take_step
from kitchen.settings import settings
from kitchen.use_cases import open_kitchen
from tidings import Event, Service, Settings, StateContext, event
from tidings.context import Context, request
from tidings.fastapi import create_app
from tidings.messages.delivery import DeliveryContext
from tidings.messages.events import message_type
from tidings.testing import MemoryBroker, MemorySidecar, MemoryStore, lifespan

NOW = datetime(2026, 3, 14, 18, tzinfo=UTC)
TOPICS = ("orders.orderConfirmed.v2", "orders.orderCancelled.v1", "menu.recipePublished.v1")


@event("orders.orderConfirmed", version=2, subject="order_id")
class OrderConfirmed(Event):
    """As orders publishes it, with more than the kitchen reads."""

    order_id: str
    fulfilment: str = "pickup"
    lines: list[dict[str, Any]]
    customer: str = "Robin"
    confirmed_at: datetime = NOW


@event("orders.orderCancelled", subject="order_id")
class OrderCancelled(Event):
    order_id: str
    reason: str = "customerCancelled"


@event("menu.recipePublished", subject="sku")
class RecipePublished(Event):
    sku: str
    ingredients: list[str]
    published_at: datetime = NOW


class Kitchen:
    """One replica of the kitchen on its sidecar's twin."""

    def __init__(self, broker: MemoryBroker, store: MemoryStore, instance: str, *, opens: bool) -> None:
        self.broker, self.store = broker, store
        sidecar = MemorySidecar("kitchen", broker, store)
        chosen = Settings(tidings_instance=instance)
        opening = open_kitchen if opens else None
        self.service = Service("kitchen", handlers, settings=chosen, sidecar=sidecar, startup_hook=opening)
        self.app = create_app(self.service, [router], errors=ERRORS)
        self.api = httpx2.AsyncClient(transport=httpx2.ASGITransport(self.app), base_url="http://kitchen")

    async def until_idle(self) -> None:
        while not await self.service.ready() or self.service.outbox.depth:  # noqa: ASYNC110 - asked, as by a probe
            await asyncio.sleep(0)

    async def publish_events(self, *events: Event) -> None:
        """Let other services publish."""
        for item in events:
            kind = message_type(type(item))
            context = Context(DeliveryContext("elsewhere", request("c-1")), NOW, 1_000_000)
            context.publish(item)
            await self.service.sidecar.publish(kind.topic, bytes(context.outgoing[0].event))
        await self.broker.settle()

    async def did(self, path: str, **body: Any) -> httpx2.Response:
        answer = await self.api.post(path, json=body or None)
        await self.broker.settle()
        return answer

    async def step(self, *steps: str, order: str = "o-1") -> None:
        for step in steps:
            answer = await self.did(f"/tickets/{order}/steps/{step}")
            assert answer.status_code == 200, answer.text

    async def board(self) -> list[tuple[str, str]]:
        body = (await self.api.get("/board")).json()
        return [(ticket["orderId"], ticket["status"]) for ticket in body["tickets"]]

    async def status(self, order: str = "o-1") -> str:
        return str((await self.api.get(f"/tickets/{order}")).json()["status"])

    def facts(self, subject: str = "o-1") -> list[dict[str, Any]]:
        """Return the kitchen's published facts about a subject, in the order of publishing.

        Each once: a second replica may publish a fact of the first again, under the same id.
        """
        result = {
            (item["id"], item["version"]): item
            for topic in self.broker.topics
            for item in self.broker.events(topic)
            if item["source"] == "kitchen" and item["subject"] == subject
        }
        return sorted(result.values(), key=lambda item: str(item["id"]))

    def hanging(self) -> list[str]:
        """Return the stored shards of the board index that hold anything."""
        documents = [self.store.read(f"kitchen||boardIndex/{key}") for key in shard_keys()]
        return [str(item.value) for item in documents if item is not None and b'"orders":{}' not in item.value]

    def names(self, subject: str = "o-1") -> list[str]:
        return [fact["type"].rpartition(".")[2] for fact in self.facts(subject)]


Open = Callable[..., Any]


@pytest.fixture
async def kitchens(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Open]:
    """Start kitchens: `await kitchens(pace=0, autopilot=True)`; further calls start replicas."""
    broker, store = MemoryBroker(shuffle=None), MemoryStore()
    started: list[Kitchen] = []
    async with AsyncExitStack() as stack:

        async def start(*, shuffle: int | None = None, opens: bool = True, **chosen: object) -> Kitchen:
            broker._shuffle = None if shuffle is None else random.Random(shuffle)
            for name, value in {"opening_crew": "ana:Ana:cook", "pace": 0, **chosen}.items():
                monkeypatch.setenv(f"KITCHEN_{name.upper()}", str(value))
            settings.cache_clear()
            kitchen = Kitchen(broker, store, f"kitchen-{len(started)}", opens=opens)
            started.append(kitchen)
            await stack.enter_async_context(lifespan(kitchen.app))
            stack.push_async_callback(kitchen.api.aclose)
            subscriptions = [
                {"spec": {"pubsubname": "pubsub", "topic": topic, "routes": {"default": f"/events/{topic}"}}}
                for topic in TOPICS
            ]
            broker.attach("kitchen", kitchen.app, subscriptions)
            broker.while_busy(kitchen.until_idle)
            await broker.settle()
            return kitchen

        yield start
    settings.cache_clear()


def confirmed(order: str = "o-1", **lines: int) -> OrderConfirmed:
    return OrderConfirmed(
        order_id=order,
        lines=[{"sku": sku, "quantity": count, "name": sku} for sku, count in (lines or {"funghi": 2}).items()],
    )


WAY = ["preparationStarted", "pizzaPrepared", "pizzaBaked", "qualityChecked", "pizzaBoxed"]


async def test_the_crew_makes_an_order_by_itself_and_publishes_every_step(kitchens: Open) -> None:
    kitchen = await kitchens(autopilot=True)
    await kitchen.publish_events(confirmed(funghi=2, margherita=1))
    assert kitchen.names() == WAY
    assert {fact["correlationid"] for fact in kitchen.facts()} == {"c-1"}
    boxed = kitchen.facts()[-1]["data"]
    assert (boxed["boxes"], boxed["fulfilment"]) == (3, "pickup")
    assert (await kitchen.status(), await kitchen.board(), kitchen.hanging()) == ("boxed", [], [])


@pytest.mark.parametrize("failures", [1, 2])
async def test_a_pizza_that_fails_its_check_is_made_good(kitchens: Open, failures: int) -> None:
    kitchen = await kitchens(autopilot=True, failing_checks=f"funghi:{failures}")
    await kitchen.publish_events(confirmed())
    checks = [fact["data"] for fact in kitchen.facts() if fact["type"] == "kitchen.qualityChecked"]
    assert [(check["attempt"], check["passed"]) for check in checks] == [
        (number, number > failures) for number in range(1, failures + 2)
    ]
    assert kitchen.names().count("pizzaPrepared") == 1 + failures // 2
    assert kitchen.names()[-1] == "pizzaBoxed"


async def test_people_do_the_steps_where_the_crew_does_not_work_by_itself(kitchens: Open) -> None:
    kitchen = await kitchens()
    await kitchen.publish_events(confirmed())
    assert await kitchen.board() == [("o-1", "waiting")]
    await kitchen.step("started", "prepared", "baked")
    failed = await kitchen.did("/tickets/o-1/steps/checked", passed=False)
    assert (failed.json()["status"], failed.json()["nextStep"]) == ("prepared", "baked")
    await kitchen.step("baked", "checked")
    assert await kitchen.board() == [("o-1", "checked")]
    wrong = await kitchen.did("/tickets/o-1/steps/baked")
    assert (wrong.status_code, "the next step is 'boxed'" in wrong.json()["detail"]) == (409, True)
    await kitchen.step("boxed")
    assert await kitchen.board() == []
    assert {fact["correlationid"] for fact in kitchen.facts()} == {"c-1"}


async def test_a_step_done_by_hand_takes_the_place_of_the_planned_one(kitchens: Open) -> None:
    kitchen = await kitchens()
    await kitchen.publish_events(confirmed())
    await kitchen.step("started")
    stale = TakeStep(order_id="o-1", step="started", moves=0)
    await kitchen.service.execute(take_step, stale)
    await kitchen.service.execute(take_step, TakeStep(order_id="unknown", step="started", moves=0))
    await kitchen.broker.settle()
    assert (await kitchen.status(), kitchen.names()) == ("preparing", ["preparationStarted"])


@pytest.mark.parametrize("done", range(6))
async def test_a_cancellation_at_every_stage_ends_the_work(kitchens: Open, done: int) -> None:
    kitchen = await kitchens()
    await kitchen.publish_events(confirmed())
    steps = ["started", "prepared", "baked", "checked", "boxed"]
    await kitchen.step(*steps[:done])
    await kitchen.publish_events(OrderCancelled(order_id="o-1"))
    stage = ["waiting", "preparing", "prepared", "baked", "checked", "boxed"][done]
    published = ["preparationStopped"] if 0 < done < 5 else []
    assert kitchen.names() == [*WAY[:done], *published]
    assert not published or kitchen.facts()[-1]["data"]["stage"] == stage
    assert (await kitchen.status(), await kitchen.board()) == ("boxed" if done == 5 else "stopped", [])


@pytest.mark.parametrize("order", sorted(set(permutations("cxxcc", 4))))
async def test_cancelled_before_confirmed_and_published_repeatedly(kitchens: Open, order: tuple[str, ...]) -> None:
    """Whichever comes first: an order that was cancelled before the crew began is not made."""
    kitchen = await kitchens()
    for item in order:
        await kitchen.publish_events(confirmed() if item == "c" else OrderCancelled(order_id="o-1"))
    assert (await kitchen.status(), kitchen.names()) == ("stopped", [])


@pytest.mark.parametrize("seed", range(5))
async def test_any_order_of_arrival_ends_the_same_way(kitchens: Open, seed: int) -> None:
    kitchen = await kitchens(autopilot=True, shuffle=seed)
    orders = [f"o-{number}" for number in range(10)]
    cancelled = [OrderCancelled(order_id=order) for order in orders[:5]]
    await kitchen.publish_events(*(confirmed(order) for order in orders), *cancelled, *cancelled)
    for order in orders:
        names = kitchen.names(order)
        finished = await kitchen.status(order)
        assert finished == "boxed" if order in orders[5:] else finished in ("boxed", "stopped")
        assert (names == WAY) == (finished == "boxed")
    assert await kitchen.board() == []


async def test_without_staff_orders_are_rejected_and_what_was_taken_is_finished(kitchens: Open) -> None:
    kitchen = await kitchens()
    await kitchen.publish_events(confirmed("o-1"))
    assert (await kitchen.did("/staff/ana/clock-out")).json() == []
    await kitchen.publish_events(confirmed("o-2"))
    assert kitchen.facts("o-2")[0]["data"]["reason"] == "kitchenClosed"
    await kitchen.step("started", "prepared", "baked", "checked", "boxed", order="o-1")
    assert await kitchen.status("o-1") == "boxed"


async def test_what_cannot_be_made_for_want_of_an_ingredient_is_rejected(kitchens: Open) -> None:
    kitchen = await kitchens()
    await kitchen.publish_events(RecipePublished(sku="funghi", ingredients=["thyme", "oat-cream"]))
    removed = await kitchen.did("/ingredients/thyme/ran-out")
    assert removed.json() == {"ingredient": "thyme", "available": False, "skus": ["funghi"]}
    await kitchen.did("/ingredients/thyme/ran-out")
    await kitchen.publish_events(confirmed("o-1", funghi=1, margherita=1), confirmed("o-2", margherita=1))
    assert kitchen.facts("o-1")[0]["data"] | {"rejectedAt": ""} == {
        "orderId": "o-1",
        "reason": "itemSoldOut",
        "rejectedAt": "",
        "skus": ["funghi"],
    }
    assert (await kitchen.api.get("/board")).json()["missingIngredients"] == ["thyme"]
    await kitchen.did("/ingredients/thyme/delivered")
    await kitchen.publish_events(confirmed("o-3", funghi=1))
    assert kitchen.names("thyme") == ["ingredientRanOut", "ingredientDelivered"]
    assert {await kitchen.status("o-2"), await kitchen.status("o-3")} == {"waiting"}


async def test_the_opening_crew_clocks_in_at_the_first_start_only(kitchens: Open) -> None:
    first = await kitchens(opening_crew="ana:Ana:cook,ben:Ben:manager")
    await first.publish_events()
    again = await kitchens(opening_crew="ana:Ana:cook,ben:Ben:manager,cleo:Cleo:cook")
    assert (await again.did("/staff/ana/clock-in", name="Ana")).status_code == 200
    joined = await again.did("/staff/dan/clock-in", name="Dan", role="cook")
    assert [member["memberId"] for member in joined.json()] == ["ana", "ben", "dan"]
    await again.did("/staff/ben/clock-out")
    assert [again.names(member) for member in ("ana", "ben", "cleo", "dan")] == [
        ["memberClockedIn"],
        ["memberClockedIn", "memberClockedOut"],
        [],
        ["memberClockedIn"],
    ]


async def test_a_backlog_that_comes_in_before_the_kitchen_has_opened_finds_its_crew(kitchens: Open) -> None:
    kitchen = await kitchens(opens=False)
    await kitchen.publish_events(confirmed())
    assert await kitchen.status() == "waiting"


async def test_a_ticket_finished_while_it_is_indexed_does_not_stay_on_the_board(kitchens: Open) -> None:
    kitchen = await kitchens()
    await kitchen.publish_events(confirmed())
    overtaken: list[str] = []

    async def index_late(message: IndexTicket, context: StateContext) -> None:
        await index_ticket(message, context)
        if not overtaken:  # another replica is faster
            overtaken.append(message.order_id)
            await kitchen.publish_events(OrderCancelled(order_id=message.order_id))

    await kitchen.service.execute(index_late, IndexTicket(order_id="o-1"))
    assert (overtaken, kitchen.hanging()) == (["o-1"], [])


async def test_a_burst_of_orders_is_shown_on_the_board_and_leaves_nothing_behind(kitchens: Open) -> None:
    kitchen = await kitchens()
    orders = [f"o-{number}" for number in range(200)]
    await kitchen.publish_events(*(confirmed(order) for order in orders))
    assert len(await kitchen.board()) == 200
    assert len((await kitchen.api.get("/board?limit=7")).json()["tickets"]) == 7
    await kitchen.publish_events(*(OrderCancelled(order_id=order) for order in orders))
    assert (await kitchen.board(), kitchen.hanging()) == ([], [])


async def test_every_replica_shows_the_same_board(kitchens: Open) -> None:
    one = await kitchens()
    await one.publish_events(confirmed("o-1"))
    two = await kitchens()
    await two.publish_events(confirmed("o-2"))
    await one.step("started", order="o-2")
    assert await one.board() == await two.board() == [("o-1", "waiting"), ("o-2", "preparing")]


@pytest.mark.parametrize(
    ("method", "path", "body", "status", "detail"),
    [
        ("GET", "/tickets/o-9", None, 404, "no ticket for order o-9"),
        ("POST", "/tickets/o-9/steps/baked", None, 404, "no ticket for order o-9"),
        ("POST", "/tickets/o-9/steps/eaten", None, 422, "path.step"),
        ("POST", "/tickets/o-9/steps/checked", {"pased": False}, 422, "body.pased"),
        ("POST", "/staff/zoe/clock-out", None, 409, "zoe is not clocked in"),
        ("POST", "/staff/zoe/clock-in", {"name": ""}, 422, "body.name"),
        ("POST", "/staff/zoe/clock-in", {"name": "Zoe", "role": "guest"}, 422, "body.role"),
        ("POST", "/ingredients/Oat%20cream/ran-out", None, 422, "path.name"),
        ("GET", "/board?limit=0", None, 422, "query.limit"),
    ],
)
async def test_wrong_requests_are_answered_clearly(
    kitchens: Open, method: str, path: str, body: object, status: int, detail: str
) -> None:
    kitchen = await kitchens()
    answer = await kitchen.api.request(method, path, json=body)
    assert (answer.status_code, detail in answer.json()["detail"]) == (status, True), answer.text
