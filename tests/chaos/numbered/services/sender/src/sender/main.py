"""Tells the numbers of a parcel, each in exactly one unit of work, however often it is asked to."""

from __future__ import annotations

import asyncio

from fastapi import APIRouter

from tidings import Event, Service, StateContext, event
from tidings.fastapi import CurrentService, create_app


class _Number(Event):
    parcel: str
    number: int
    poison: bool = False


@event("sender.numberTold", subject="parcel")
class NumberTold(_Number):
    """Taken without limits."""


@event("sender.numberPaced", subject="parcel")
class NumberPaced(_Number):
    """Taken at one a second."""


@event("sender.numberShared", subject="parcel")
class NumberShared(_Number):
    """Taken by two at once."""


@event("sender.numberQueued", subject="parcel")
class NumberQueued(_Number):
    """Taken one after the other within a parcel."""


class Sent(Event):
    """Count of a parcel's published numbers."""

    told: int = 0


class Order(Event):
    """Publish a parcel's numbers up to `size`; `poisoned` is the number that no handler can handle, or -1."""

    kind: str
    parcel: str
    size: int
    poisoned: int
    at_once: int


KINDS = {"told": NumberTold, "paced": NumberPaced, "shared": NumberShared, "queued": NumberQueued}
router = APIRouter()


async def tell_on(order: Order, context: StateContext) -> int:
    """Publish the next numbers; return how many have been published."""
    key = f"{order.kind}-{order.parcel}"
    sent = await context.load(Sent, key) or Sent()
    until = min(sent.told + order.at_once, order.size)
    for number in range(sent.told, until):
        context.publish(KINDS[order.kind](parcel=order.parcel, number=number, poison=number == order.poisoned))
    if until > sent.told:
        context.save(key, Sent(told=until))
    return until


@router.post("/parcels/{kind}/{parcel}")
async def post_parcel(
    kind: str,
    parcel: str,
    service: CurrentService,
    size: int,
    poisoned: int = -1,
    at_once: int = 1,
    pause: float = 0.0,
) -> int:
    """Publish all numbers and return their count; a repeated call continues where the last one ended.

    `pause` are the seconds from one number to the next.
    """
    order = Order(kind=kind, parcel=parcel, size=size, poisoned=poisoned, at_once=at_once)
    while await service.execute(tell_on, order) < size:  # noqa: ASYNC110 - the pace, not a wait for anything
        await asyncio.sleep(pause)
    return size


app = create_app(Service("sender"), [router])
