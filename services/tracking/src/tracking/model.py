"""The read model in the state store: orders under a generation, each in a document of its own."""

from __future__ import annotations

import zlib
from dataclasses import dataclass

from tidings import StateContext
from tracking.commands import CountOrder
from tracking.domain import Entry, Fact, ReadModel, Totals, TrackedOrder
from tracking.settings import settings

CURRENT = "current"
_PARTS = 8


async def read_model(context: StateContext) -> ReadModel:
    """Which generation is read and which is written."""
    return await context.load(ReadModel, CURRENT) or ReadModel()


async def find(order_id: str, context: StateContext) -> TrackedOrder | None:
    """All that is known of an order; None where nothing is."""
    found: TrackedOrder | None = None
    for generation in (await read_model(context)).readable:
        known = await context.load(TrackedOrder, _key(generation, order_id))
        if found is None:
            found = known
        elif known is not None:
            found.merge(known)
    return found


@dataclass(frozen=True, slots=True)
class News:
    """An entry for an order's timeline, with what it says beyond its words."""

    order_id: str
    entry: Entry
    fact: Fact


async def note(news: News, context: StateContext) -> TrackedOrder | None:
    """Add a fact to what is known of an order; the order as readers see it, None where it was known already.

    Written so that the store forgets it some weeks after the last news: nobody has to clear former generations away.
    """
    model = await read_model(context)
    key = _key(model.written, news.order_id)
    order = await context.load(TrackedOrder, key) or TrackedOrder(order_id=news.order_id)
    before = Totals.of(order)
    if not order.add(news.entry, news.fact):
        return None
    context.save(key, order, ttl=settings().keep)
    difference = Totals.of(order) - before
    if difference != Totals():
        context.schedule(CountOrder(order_id=order.order_id, generation=model.written, difference=difference))
    if not model.building:
        return order
    former = await context.load(TrackedOrder, _key(model.generation, news.order_id))
    return order if former is None else _both(order, former)


async def totals(_nothing: None, context: StateContext) -> Totals:
    """Count all orders of the generation that is shown."""
    generation = (await read_model(context)).generation
    found = Totals()
    for part in range(_PARTS):
        found.add(await context.load(Totals, _part_key(generation, part)) or Totals())
    return found


async def count(counted: CountOrder, context: StateContext) -> None:
    """Keep the totals right; in parts, so that orders seldom wait for each other's writes."""
    key = _part_key(counted.generation, zlib.crc32(counted.order_id.encode()) % _PARTS)
    found = await context.load(Totals, key) or Totals()
    found.add(counted.difference)
    context.save(key, found)


def _part_key(generation: int, part: int) -> str:
    return f"{generation}/{part}"


def _both(order: TrackedOrder, former: TrackedOrder) -> TrackedOrder:
    seen = TrackedOrder(order_id=order.order_id)
    seen.merge(order)
    seen.merge(former)
    return seen


def _key(generation: int, order_id: str) -> str:
    return f"{generation}/{order_id}"
