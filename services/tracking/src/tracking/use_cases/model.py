"""The read model in the state store: one document per order and generation."""

import zlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from tidings import Rejected, StateContext
from tracking.commands import CountOrder
from tracking.domain import Entry, Fact, OrderCounts, ReadModel, Totals, TrackedOrder
from tracking.settings import settings

CURRENT = "current"
MOST_EVENTS = 500
"""Most events of one order, which usually has 20: they share a document, which each read and write has to carry."""
_PARTS = 8


class _Latest:
    """Generation that was last seen by this process; a hint, never relied upon."""

    generation = 0


_latest = _Latest()


async def read_model(context: StateContext) -> ReadModel:
    """Return the current generations."""
    return await context.load(ReadModel, CURRENT) or ReadModel()


async def find(order_id: str, context: StateContext) -> TrackedOrder | None:
    """Return an order merged from all readable generations, or None."""
    known = await _known(order_id, (await read_model(context)).readable, context)
    return _merged(known[0], known[1:]) if known else None


@dataclass(frozen=True, slots=True)
class OrderChange:
    """An entry for the timeline of an order, with its data."""

    entry: Entry
    fact: Fact
    is_replay: bool = False


async def add(order_id: str, changes: Iterable[OrderChange], context: StateContext) -> TrackedOrder | None:
    """Add events to an order; return the order as readers see it, None if all events were known.

    Raises:
        Rejected: The order has `MOST_EVENTS` already.

    """
    # The generation hardly ever changes: reading both documents in one call halves the reads of nearly all events.
    await context.prefetch((ReadModel, CURRENT), (TrackedOrder, _key(_latest.generation, order_id)))
    model = await read_model(context)
    _latest.generation = model.written
    key = _key(model.written, order_id)
    order = await context.load(TrackedOrder, key) or TrackedOrder(order_id=order_id)
    _, *older = model.readable
    former = await _known(order_id, older, context)
    counts, before = OrderCounts(), len(order.timeline)
    for change in changes:
        difference = _add(change, order, former)
        visible = _merged(order, former)
        if change.is_replay and not former and context.now - visible.updated_at > settings().keep:
            # The order was counted and has been dropped since: by an older generation, or by this one if there is none.
            difference = OrderCounts(own=difference.own if older else Totals())
        counts.own.add(difference.own)
        counts.visible.add(difference.visible)
    if len(order.timeline) == before:
        return None
    if len(order.timeline) > MOST_EVENTS:
        raise Rejected(f"order {order_id} has {before} events already, and an order may have {MOST_EVENTS}")
    # The time-to-live also removes former generations, so they need no clean-up.
    context.save(key, order, ttl=settings().keep)
    if counts != OrderCounts():
        context.schedule(CountOrder(order_id=order_id, generation=model.written, counts=counts))
    return _merged(order, former)


def _add(change: OrderChange, order: TrackedOrder, former: Sequence[TrackedOrder]) -> OrderCounts:
    """Add an event to an order unless it is known; return by how much it changes the totals."""
    before, visible_before = Totals.of(order), Totals.of(_merged(order, former))
    order.add(change.entry, change.fact)
    return OrderCounts(own=Totals.of(order) - before, visible=Totals.of(_merged(order, former)) - visible_before)


async def totals(_nothing: None, context: StateContext) -> Totals:
    """Return the totals of all orders: those of the oldest readable generation, and what newer ones have changed."""
    *newer, oldest = (await read_model(context)).readable
    total = Totals()
    for part in range(_PARTS):
        total.add((await _counts(oldest, part, context)).own)
        for generation in newer:
            total.add((await _counts(generation, part, context)).visible)
    return total


async def count(counted: CountOrder, context: StateContext) -> None:
    """Update the totals. They are split into parts to reduce write conflicts between orders."""
    part = zlib.crc32(counted.order_id.encode()) % _PARTS
    counts = await _counts(counted.generation, part, context)
    counts.own.add(counted.counts.own)
    counts.visible.add(counted.counts.visible)
    context.save(_part_key(counted.generation, part), counts)


async def _counts(generation: int, part: int, context: StateContext) -> OrderCounts:
    return await context.load(OrderCounts, _part_key(generation, part)) or OrderCounts()


def _part_key(generation: int, part: int) -> str:
    return f"{generation}/{part}"


async def _known(order_id: str, generations: Iterable[int], context: StateContext) -> list[TrackedOrder]:
    loaded = [await context.load(TrackedOrder, _key(generation, order_id)) for generation in generations]
    return [order for order in loaded if order is not None]


def _merged(order: TrackedOrder, former: Sequence[TrackedOrder]) -> TrackedOrder:
    if not former:
        return order
    # Merge into a copy: `order` is going to be saved, and must contain events of its own generation only.
    merged = TrackedOrder(order_id=order.order_id)
    for known in (order, *former):
        merged.merge(known)
    return merged


def _key(generation: int, order_id: str) -> str:
    return f"{generation}/{order_id}"
