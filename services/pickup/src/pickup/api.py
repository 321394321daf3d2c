"""The counter's HTTP API."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated

from fastapi import APIRouter, HTTPException
from pydantic import BaseModel, ConfigDict, StringConstraints
from pydantic.alias_generators import to_camel

from pickup.domain import NotOnShelf, Rack, ShelvedOrder, Status, WrongCode
from pickup.handlers import MAIN, hand_out
from tidings import StateContext
from tidings.fastapi import CurrentService

router = APIRouter(tags=["pickup"])


class Model(BaseModel):
    """What is sent and answered: camelCase on the wire."""

    model_config = ConfigDict(alias_generator=to_camel, populate_by_name=True, from_attributes=True)


class Collect(Model):
    """A customer at the counter."""

    code: Annotated[str, StringConstraints(min_length=1, max_length=20, strip_whitespace=True)]


class OrderAnswer(Model):
    """An order, as its customer may see it: who knows its id is its customer, so the code is shown."""

    order_id: str
    status: Status
    shelf: str
    code: str
    boxes: int
    shelved_at: datetime | None
    until: datetime | None


class PlaceAnswer(Model):
    """An order on a shelf, as everybody at the counter may see it: without its code."""

    order_id: str
    shelf: str
    customer_name: str
    boxes: int
    shelved_at: datetime | None


class ShelfAnswer(Model):
    """All that can be collected now."""

    orders: list[PlaceAnswer]


@router.get("/shelf", summary="All that can be collected now; an order appears here moments after it was shelved")
async def shelf(service: CurrentService) -> ShelfAnswer:
    """List what lies on all shelves, the longest waiting first."""
    rack = await service.execute(_rack, None)
    places = [
        PlaceAnswer(
            order_id=order_id,
            shelf=place.shelf,
            customer_name=place.customer_name,
            boxes=place.boxes,
            shelved_at=place.shelved_at,
        )
        for order_id, place in rack.orders.items()
    ]
    return ShelfAnswer(orders=sorted(places, key=lambda place: (str(place.shelved_at), place.order_id)))


@router.get("/orders/{order_id}", summary="One order at the counter")
async def order(order_id: str, service: CurrentService) -> OrderAnswer:
    """Show one order."""
    return await service.execute(_show, order_id)


@router.post("/orders/{order_id}/collect", summary="Hand out an order to whoever knows its code")
async def collect(order_id: str, request: Collect, service: CurrentService) -> OrderAnswer:
    """Hand out an order; asking again with the same code gives the same answer."""

    async def run(_message: object, context: StateContext) -> OrderAnswer:
        found = await _known(order_id, context)
        context.correlate(found.correlation_id)
        hand_out(found, request.code, context)
        return OrderAnswer.model_validate(found)

    try:
        return await service.execute(run, request)
    except NotOnShelf as error:
        raise HTTPException(409, str(error)) from error
    except WrongCode as error:
        raise HTTPException(403, str(error)) from error


async def _known(order_id: str, context: StateContext) -> ShelvedOrder:
    found = await context.load(ShelvedOrder, order_id)
    if found is None:
        raise HTTPException(404, f"pickup knows no order {order_id}: it is not confirmed yet, or it is delivered")
    return found


async def _show(order_id: str, context: StateContext) -> OrderAnswer:
    return OrderAnswer.model_validate(await _known(order_id, context))


async def _rack(_message: object, context: StateContext) -> Rack:
    return await context.load(Rack, MAIN) or Rack()
