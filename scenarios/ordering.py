"""Customers, as the scenarios and the tests of the whole system play them: through the HTTP APIs alone."""

from __future__ import annotations

import asyncio
import itertools
import random
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime
from http import HTTPStatus
from typing import Any

import httpx2

from tidings.up.errors import UpError

URLs = Callable[[str], str]
"""Address of a service by its name."""

DECLINED = "tok_declined"
_NAMES = ("Ada", "Grace", "Edsger", "Barbara", "Alan", "Katherine", "Donald", "Margaret")


class NotSettled(UpError):
    """Orders have no end after the time that they were given."""


@dataclass(frozen=True, slots=True)
class Placed:
    """An order that was accepted."""

    order_id: str
    total_cents: int
    fulfilment: str
    declined: bool
    answered: float
    """Seconds until the customer had an answer."""


@dataclass(slots=True)
class Burst:
    """Orders that were sent at once."""

    placed: list[Placed] = field(default_factory=list)
    refusals: Counter[str] = field(default_factory=Counter)

    @property
    def ids(self) -> list[str]:
        return [each.order_id for each in self.placed]

    def due(self) -> dict[str, int]:
        """How many of each must come about if nothing is lost and nothing doubled."""
        paid = [each for each in self.placed if not each.declined]
        return {
            "placed": len(self.placed),
            "completed": len(paid),
            "refused": len(self.placed) - len(paid),
            "pickup": sum(each.fulfilment == "pickup" for each in paid),
            "delivery": sum(each.fulfilment == "delivery" for each in paid),
            "cents": sum(each.total_cents for each in paid),
        }


def an_order(number: int, skus: Mapping[str, int], chance: random.Random, *, declined: bool = False) -> dict[str, Any]:
    """Make the body of an order: one to three pizzas, every second one delivered."""
    name = _NAMES[number % len(_NAMES)]
    customer = {"customerId": f"{name.lower()}-{number % 20}", "name": name, "email": f"{name.lower()}@example.org"}
    chosen = chance.sample(sorted(skus), k=min(chance.randint(1, 3), len(skus)))
    body: dict[str, Any] = {
        "customer": customer,
        "fulfilment": ("pickup", "delivery")[number % 2],
        "lines": [{"sku": sku, "quantity": chance.randint(1, 2)} for sku in chosen],
        "paymentToken": DECLINED if declined else "tok_ok",
    }
    if body["fulfilment"] == "delivery":
        body["address"] = {"street": f"Basil Street {number % 90 + 1}", "city": "Tomatown", "postcode": "10115"}
    return body


async def menu(client: httpx2.AsyncClient, url: URLs, patience: float = 30.0) -> dict[str, int]:
    """Ask for the menu until there is one; prices in cents by sku, of what can be had."""
    async with asyncio.timeout(patience):
        while True:
            with suppress(httpx2.TransportError):  # it may be on its way up again
                answer = await client.get(f"{url('menu')}/menu")
                items = answer.json().get("items", []) if answer.is_success else []
                if items:
                    return {item["sku"]: item["priceCents"] for item in items if item.get("available", True)}
            await asyncio.sleep(0.2)


async def place(
    client: httpx2.AsyncClient,
    url: URLs,
    count: int,
    *,
    concurrency: int = 16,
    declined_every: int = 20,
    seed: int = 1,
    first: int = 0,
    patience: float = 60.0,
) -> Burst:
    """Send `count` orders, `concurrency` at a time, as a browser would: with an idempotency key, again on a 503.

    Raises:
        TimeoutError: An order was not answered within `patience` seconds.

    """
    skus = await menu(client, url)
    chance = random.Random(seed)  # noqa: S311 - the same burst each time
    burst, slots = Burst(), asyncio.Semaphore(concurrency)

    async def one(number: int) -> None:
        declined = bool(declined_every) and number % declined_every == declined_every - 1
        body = an_order(number, skus, chance, declined=declined)
        async with slots, asyncio.timeout(patience):
            began = time.perf_counter()
            answer = await _until_answered(client, f"{url('orders')}/orders", body, f"demo-{seed}-{number}")
            took = time.perf_counter() - began
        if answer.status_code != HTTPStatus.ACCEPTED:
            burst.refusals[str(answer.json().get("detail", answer.text))] += 1
            return
        told = answer.json()
        burst.placed.append(Placed(told["orderId"], told["totalCents"], body["fulfilment"], declined, took))

    await asyncio.gather(*(one(number) for number in range(first, first + count)))
    return burst


async def _until_answered(client: httpx2.AsyncClient, url: str, body: dict[str, Any], key: str) -> httpx2.Response:
    """Send an order until somebody answers it: the key makes sure that it is placed once."""
    for attempt in itertools.count():
        try:
            answer = await client.post(url, json=body, headers={"Idempotency-Key": key})
            if answer.status_code < HTTPStatus.INTERNAL_SERVER_ERROR and not _menu_is_missing(answer):
                return answer
        except httpx2.TransportError:
            pass  # nobody there yet, or the answer got lost: asked again under the same key
        await asyncio.sleep(min(0.05 * 2**attempt, 1.0))
    raise AssertionError("unreachable")


def _menu_is_missing(answer: httpx2.Response) -> bool:
    """Right after a start orders may not know the menu yet."""
    return answer.status_code == HTTPStatus.SERVICE_UNAVAILABLE


Follow = dict[str, Any]
"""What tracking tells of an order."""


async def follow(
    client: httpx2.AsyncClient,
    url: URLs,
    ids: Iterable[str],
    *,
    patience: float,
    seen: Callable[[int], None] = lambda _: None,
) -> dict[str, Follow]:
    """Ask tracking until every order is finished; answers what it tells of each.

    Raises:
        NotSettled: Some are not finished within `patience` seconds; the message names them and where they stand.

    """
    waiting, finished = list(ids), {}
    end = time.monotonic() + patience
    last: dict[str, Follow] = {}
    while waiting:
        for order_id in list(waiting):
            told = await _track(client, url, order_id)
            if told is None:
                continue
            last[order_id] = told
            if told["finished"]:
                finished[order_id] = told
                waiting.remove(order_id)
                seen(len(finished))
        if waiting and time.monotonic() > end:
            raise NotSettled(_unsettled(waiting, last, patience))
        await asyncio.sleep(0.2)
    return finished


async def _track(client: httpx2.AsyncClient, url: URLs, order_id: str) -> Follow | None:
    try:
        answer = await client.get(f"{url('tracking')}/track/{order_id}")
    except httpx2.TransportError:
        return None
    found: Follow | None = answer.json() if answer.is_success else None
    return found


def _unsettled(waiting: list[str], last: dict[str, Follow], patience: float) -> str:
    stages = Counter(last[each]["stage"] if each in last else "unknown" for each in waiting)
    told = ", ".join(f"{number} {stage}" for stage, number in stages.most_common())
    return f"{len(waiting)} orders have no end after {patience:.0f} s: {told}; for instance {waiting[0]}"


LEGS = (
    ("orders.orderPlaced", "payments.paymentAuthorised"),
    ("payments.paymentAuthorised", "orders.orderConfirmed"),
    ("orders.orderConfirmed", "kitchen.preparationStarted"),
    ("kitchen.preparationStarted", "kitchen.pizzaPrepared"),
    ("kitchen.pizzaPrepared", "kitchen.pizzaBaked"),
    ("kitchen.pizzaBaked", "kitchen.qualityChecked"),
    ("kitchen.qualityChecked", "kitchen.pizzaBoxed"),
    ("kitchen.pizzaBoxed", "pickup.orderShelved"),
    ("pickup.orderShelved", "pickup.orderCollected"),
    ("pickup.orderCollected", "orders.orderCompleted"),
    ("kitchen.pizzaBoxed", "delivery.driverAssigned"),
    ("delivery.driverAssigned", "delivery.orderCollected"),
    ("delivery.orderCollected", "delivery.orderDelivered"),
    ("delivery.orderDelivered", "orders.orderCompleted"),
    ("orders.orderCompleted", "payments.paymentSettled"),
    ("orders.orderCompleted", "loyalty.pointsAdded"),
    ("orders.orderPlaced", "orders.orderCompleted"),
)
"""From which fact to which one a leg of an order's way goes."""


def legs(told: Iterable[Follow]) -> dict[tuple[str, str], list[float]]:
    """How many seconds each leg took, for each order that went it."""
    found: dict[tuple[str, str], list[float]] = {leg: [] for leg in LEGS}
    for each in told:
        when = {entry["type"]: datetime.fromisoformat(entry["time"]) for entry in reversed(each["timeline"])}
        for start, end in LEGS:
            if start in when and end in when:
                found[start, end].append((when[end] - when[start]).total_seconds())
    return found


def difference(before: Mapping[str, int], after: Mapping[str, int]) -> dict[str, int]:
    """What came about between two counts."""
    return {name: after[name] - before.get(name, 0) for name in sorted(after) if after[name] != before.get(name, 0)}


async def counts(client: httpx2.AsyncClient, url: URLs, patience: float = 30.0) -> dict[str, int]:
    """How many events of each type archive has; waits for an archive that is being restarted."""
    end = time.monotonic() + patience
    while True:
        try:
            answer = await client.get(f"{url('archive')}/counts")
            found: dict[str, int] = answer.raise_for_status().json()
        except httpx2.HTTPError:
            if time.monotonic() > end:
                raise
            await asyncio.sleep(0.2)
        else:
            return found


def expected(due: Mapping[str, int]) -> dict[str, int]:
    """How many events of each type a burst must have led to."""
    completed, refused = due["completed"], due["refused"]
    return {
        "orders.orderPlaced.v1": due["placed"],
        "payments.takePayment.v1": due["placed"],
        "payments.paymentAuthorised.v1": completed,
        "payments.paymentRefused.v1": refused,
        "orders.orderConfirmed.v1": completed,
        "orders.orderConfirmed.v2": completed,
        "orders.orderCancelled.v1": refused,
        "kitchen.preparationStarted.v1": completed,
        "kitchen.pizzaPrepared.v1": completed,
        "kitchen.pizzaBoxed.v1": completed,
        "pickup.orderShelved.v1": due["pickup"],
        "pickup.orderCollected.v1": due["pickup"],
        "delivery.driverAssigned.v1": due["delivery"],
        "delivery.orderCollected.v1": due["delivery"],
        "delivery.orderDelivered.v1": due["delivery"],
        "orders.orderCompleted.v1": completed,
        "payments.paymentSettled.v1": completed,
        "loyalty.pointsAdded.v1": completed,
    }


def disagreements(due: Mapping[str, int], came: Mapping[str, int]) -> Iterator[str]:
    """Where the counts of events differ from what the burst must have led to."""
    for name, number in expected(due).items():
        if came.get(name, 0) != number:
            yield f"{name}: {came.get(name, 0)} instead of {number}"


async def until_agreed(
    client: httpx2.AsyncClient, url: URLs, before: Mapping[str, int], due: Mapping[str, int], patience: float = 60.0
) -> list[str]:
    """Wait until every count is as it must be; answers what still is not when the patience is over."""
    end = time.monotonic() + patience
    while True:
        came = difference(before, await counts(client, url))
        wrong = list(disagreements(due, came))
        if not wrong or time.monotonic() > end:
            return wrong
        await asyncio.sleep(0.5)
