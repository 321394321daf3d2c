"""The read model in the state store: one document per order and generation."""

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
    """Return the current generations."""
    return await context.load(ReadModel, CURRENT) or ReadModel()


async def find(order_id: str, context: StateContext) -> TrackedOrder | None:
    """Return an order merged from all readable generations, or None."""
    merged: TrackedOrder | None = None
    for generation in (await read_model(context)).readable:
        known = await context.load(TrackedOrder, _key(generation, order_id))
        if merged is None:
            merged = known
        elif known is not None:
            merged.merge(known)
    return merged


@dataclass(frozen=True, slots=True)
class OrderChange:
    """An entry for the timeline of an order, with its data."""

    order_id: str
    entry: Entry
    fact: Fact


async def add(change: OrderChange, context: StateContext) -> TrackedOrder | None:
    """Add an event to an order; return the order as readers see it, None if the event was known."""
    model = await read_model(context)
    key = _key(model.written, change.order_id)
    order = await context.load(TrackedOrder, key) or TrackedOrder(order_id=change.order_id)
    before = Totals.of(order)
    if not order.add(change.entry, change.fact):
        return None
    # The time-to-live also removes former generations, so they need no clean-up.
    context.save(key, order, ttl=settings().keep)
    difference = Totals.of(order) - before
    if difference != Totals():
        context.schedule(CountOrder(order_id=order.order_id, generation=model.written, difference=difference))
    if not model.building:
        return order
    former = await context.load(TrackedOrder, _key(model.generation, change.order_id))
    return order if former is None else _merged(order, former)


async def totals(_nothing: None, context: StateContext) -> Totals:
    """Return the totals of the generation that is shown."""
    generation = (await read_model(context)).generation
    total = Totals()
    for part in range(_PARTS):
        total.add(await context.load(Totals, _part_key(generation, part)) or Totals())
    return total


async def count(counted: CountOrder, context: StateContext) -> None:
    """Update the totals. They are split into parts to reduce write conflicts between orders."""
    key = _part_key(counted.generation, zlib.crc32(counted.order_id.encode()) % _PARTS)
    part = await context.load(Totals, key) or Totals()
    part.add(counted.difference)
    context.save(key, part)


def _part_key(generation: int, part: int) -> str:
    return f"{generation}/{part}"


def _merged(order: TrackedOrder, former: TrackedOrder) -> TrackedOrder:
    # Merge into a copy: `order` is going to be saved, and must contain events of its own generation only.
    merged = TrackedOrder(order_id=order.order_id)
    merged.merge(order)
    merged.merge(former)
    return merged


def _key(generation: int, order_id: str) -> str:
    return f"{generation}/{order_id}"
