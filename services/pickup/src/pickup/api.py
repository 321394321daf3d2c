"""HTTP API of the pickup counter."""

from datetime import datetime
from http import HTTPStatus
from typing import Annotated

from fastapi import APIRouter
from pydantic import StringConstraints

from pickup import use_cases
from pickup.domain import NotOnShelf, Status, WrongCode
from tidings import StateContext
from tidings.fastapi import CamelModel, CurrentService

router = APIRouter(tags=["pickup"])
ERRORS: dict[type[Exception], HTTPStatus] = {NotOnShelf: HTTPStatus.CONFLICT, WrongCode: HTTPStatus.FORBIDDEN}


class CollectRequest(CamelModel):
    """Request to hand out an order."""

    code: Annotated[str, StringConstraints(min_length=1, max_length=20, strip_whitespace=True)]


class OrderResponse(CamelModel):
    """An order as shown to its customer, including the code: only the customer knows the order id."""

    order_id: str
    status: Status
    shelf: str
    code: str
    boxes: int
    shelved_at: datetime | None
    until: datetime | None


class ShelfPlaceResponse(CamelModel):
    """An order on a shelf as shown at the counter, without its code."""

    order_id: str
    shelf: str
    customer_name: str
    boxes: int
    shelved_at: datetime | None


class ShelfResponse(CamelModel):
    """Orders ready for collection."""

    orders: list[ShelfPlaceResponse]


@router.get("/shelf", summary="List orders ready for collection; new ones appear with a short delay")
async def shelf(service: CurrentService) -> ShelfResponse:
    """Return the orders on all shelves, longest waiting first."""
    index = await service.execute(use_cases.read_shelf, None)
    places = [
        ShelfPlaceResponse(
            order_id=order_id,
            shelf=place.shelf,
            customer_name=place.customer_name,
            boxes=place.boxes,
            shelved_at=place.shelved_at,
        )
        for order_id, place in index.orders.items()
    ]
    return ShelfResponse(orders=sorted(places, key=lambda place: (str(place.shelved_at), place.order_id)))


@router.get("/orders/{order_id}", summary="Get an order")
async def order(order_id: str, service: CurrentService) -> OrderResponse:
    """Return an order; 404 if it is unknown."""
    return OrderResponse.model_validate(await service.execute(use_cases.read_order, order_id))


@router.post("/orders/{order_id}/collect", summary="Hand out an order to the customer with its code")
async def collect(order_id: str, request: CollectRequest, service: CurrentService) -> OrderResponse:
    """Hand out an order; 403 if the code is wrong, 409 if the order is not on a shelf. Idempotent."""

    async def run(_message: object, context: StateContext) -> OrderResponse:
        order = await use_cases.read_order(order_id, context)
        context.correlate(order.correlation_id)
        use_cases.hand_out(order, request.code, context)
        return OrderResponse.model_validate(order)

    return await service.execute(run, request)
