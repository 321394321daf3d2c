"""Simulated customers for scenarios and system tests; they use the HTTP APIs only."""

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

from tidings_cli.up.errors import UpError

URLs = Callable[[str], str]
"""Address of a service by its name."""

DECLINED = "tok_declined"
_NAMES = ("Ada", "Grace", "Edsger", "Barbara", "Alan", "Katherine", "Donald", "Margaret")


class NotSettled(UpError):
    """Orders did not finish in time."""


@dataclass(frozen=True, slots=True)
class Placed:
    """An accepted order."""

    order_id: str
    total_cents: int
    fulfilment: str
    declined: bool
    answered: float
    """Seconds until the response."""


@dataclass(slots=True)
class Burst:
    """Orders sent at once."""

    placed: list[Placed] = field(default_factory=list)
    refusals: Counter[str] = field(default_factory=Counter)

    @property
    def ids(self) -> list[str]:
        return [order.order_id for order in self.placed]

    def due(self) -> dict[str, int]:
        """Return the expected counts if nothing is lost and nothing doubled."""
        paid = [order for order in self.placed if not order.declined]
        return {
            "placed": len(self.placed),
            "completed": len(paid),
            "refused": len(self.placed) - len(paid),
            "pickup": sum(order.fulfilment == "pickup" for order in paid),
            "delivery": sum(order.fulfilment == "delivery" for order in paid),
            "cents": sum(order.total_cents for order in paid),
        }


def an_order(number: int, skus: Mapping[str, int], chance: random.Random, *, declined: bool = False) -> dict[str, Any]:
    """Return the body of an order: one to three kinds of pizza, every second order for delivery."""
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


async def menu(client: httpx2.AsyncClient, url: URLs, patience: float = 60.0) -> dict[str, int]:
    """Wait for the menu; return the prices in cents by sku of all available items."""
    async with asyncio.timeout(patience):
        while True:
            with suppress(httpx2.TransportError):  # the service may be restarting
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
    """Send `count` orders, `concurrency` at a time, like a browser: with idempotency keys, and retries after 503.

    Raises:
        TimeoutError: An order got no response within `patience` seconds.

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
        accepted = answer.json()
        burst.placed.append(Placed(accepted["orderId"], accepted["totalCents"], body["fulfilment"], declined, took))

    await asyncio.gather(*(one(number) for number in range(first, first + count)))
    return burst


async def _until_answered(client: httpx2.AsyncClient, url: str, body: dict[str, Any], key: str) -> httpx2.Response:
    """Send an order until there is a response; the idempotency key ensures that it is placed once."""
    for attempt in itertools.count():
        try:
            answer = await client.post(url, json=body, headers={"Idempotency-Key": key})
            if answer.status_code < HTTPStatus.INTERNAL_SERVER_ERROR and not _menu_lags(answer):
                return answer
        except httpx2.TransportError:
            pass  # the service is not up yet, or the response was lost: retry with the same key
        await asyncio.sleep(min(0.05 * 2**attempt, 1.0))
    raise AssertionError("unreachable")


def _menu_lags(answer: httpx2.Response) -> bool:
    # Right after a start, orders may know none or only some of the pizzas that the menu service lists.
    return answer.status_code == HTTPStatus.SERVICE_UNAVAILABLE or "not on the menu" in answer.text


Follow = dict[str, Any]
"""Tracking's response for an order."""


async def follow(
    client: httpx2.AsyncClient,
    url: URLs,
    ids: Iterable[str],
    *,
    patience: float,
    seen: Callable[[int], None] = lambda _: None,
) -> dict[str, Follow]:
    """Poll tracking until all orders are finished; return its responses.

    Raises:
        NotSettled: Orders are not finished within `patience` seconds; the message has their stages.

    """
    waiting, finished = list(ids), {}
    end = time.monotonic() + patience
    last: dict[str, Follow] = {}
    while waiting:
        for order_id in list(waiting):
            tracked = await _track(client, url, order_id)
            if tracked is None:
                continue
            last[order_id] = tracked
            if tracked["finished"]:
                finished[order_id] = tracked
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
    tracked: Follow | None = answer.json() if answer.is_success else None
    return tracked


def _unsettled(waiting: list[str], last: dict[str, Follow], patience: float) -> str:
    stages = Counter(last[order_id]["stage"] if order_id in last else "unknown" for order_id in waiting)
    summary = ", ".join(f"{number} {stage}" for stage, number in stages.most_common())
    return f"{len(waiting)} orders are not finished after {patience:.0f} s: {summary}; for example {waiting[0]}"


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
"""Pairs of events between which durations are measured."""


def legs(orders: Iterable[Follow]) -> dict[tuple[str, str], list[float]]:
    """Return the durations of each leg in seconds, over all orders that have both events."""
    durations: dict[tuple[str, str], list[float]] = {leg: [] for leg in LEGS}
    for order in orders:
        when = {entry["type"]: datetime.fromisoformat(entry["time"]) for entry in reversed(order["timeline"])}
        for start, end in LEGS:
            if start in when and end in when:
                durations[start, end].append((when[end] - when[start]).total_seconds())
    return durations


def difference(before: Mapping[str, int], after: Mapping[str, int]) -> dict[str, int]:
    """Return the increments between two counts, without zeros."""
    return {name: after[name] - before.get(name, 0) for name in sorted(after) if after[name] != before.get(name, 0)}


async def counts(client: httpx2.AsyncClient, url: URLs, patience: float = 60.0) -> dict[str, int]:
    """Return the number of events per type in the archive; wait for an archive that is restarting."""
    end = time.monotonic() + patience
    while True:
        try:
            answer = await client.get(f"{url('archive')}/counts")
            by_type: dict[str, int] = answer.raise_for_status().json()
        except httpx2.HTTPError:
            if time.monotonic() > end:
                raise
            await asyncio.sleep(0.2)
        else:
            return by_type


def expected(due: Mapping[str, int]) -> dict[str, int]:
    """Return the expected number of events per type for a burst."""
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


def disagreements(due: Mapping[str, int], actual: Mapping[str, int]) -> Iterator[str]:
    """Yield the differences between actual and expected counts."""
    for name, number in expected(due).items():
        if actual.get(name, 0) != number:
            yield f"{name}: {actual.get(name, 0)} instead of {number}"


async def until_agreed(
    client: httpx2.AsyncClient, url: URLs, before: Mapping[str, int], due: Mapping[str, int], patience: float = 60.0
) -> list[str]:
    """Wait until all counts are as expected; return the remaining differences after `patience` seconds."""
    end = time.monotonic() + patience
    while True:
        actual = difference(before, await counts(client, url))
        problems = list(disagreements(due, actual))
        if not problems or time.monotonic() > end:
            return problems
        await asyncio.sleep(0.5)
