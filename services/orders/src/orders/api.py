"""The HTTP API: place an order, look at it, cancel it."""

from __future__ import annotations

import secrets
from collections.abc import Awaitable, Callable
from datetime import datetime, timedelta
from http import HTTPStatus
from typing import Annotated, Literal

from fastapi import APIRouter, Header, Path, Request, Response
from pydantic import BaseModel, ConfigDict, Field
from pydantic.alias_generators import to_camel

from orders import use_cases
from orders.coupled import Unanswered
from orders.domain import (
    Address,
    Customer,
    Draft,
    Fulfilment,
    InvalidOrder,
    KeyReused,
    MenuMissing,
    Order,
    OrderUnknown,
    Reason,
    SoldOut,
    Status,
    TooLate,
    UnknownSku,
)
from orders.identity import IdSecret, id_secret
from orders.use_cases import Placing
from tidings import Service
from tidings.fastapi import CurrentService
from tidings.problems import problem

router = APIRouter(tags=["orders"])

Place = Callable[[Service, Placing, str], Awaitable[Order]]
"""A way of placing an order: by events, or coupled. Its last argument is the request's traceparent."""

STATUSES = {
    OrderUnknown: HTTPStatus.NOT_FOUND,
    TooLate: HTTPStatus.CONFLICT,
    SoldOut: HTTPStatus.CONFLICT,
    UnknownSku: HTTPStatus.UNPROCESSABLE_ENTITY,
    InvalidOrder: HTTPStatus.UNPROCESSABLE_ENTITY,
    KeyReused: HTTPStatus.UNPROCESSABLE_ENTITY,
    MenuMissing: HTTPStatus.SERVICE_UNAVAILABLE,
    Unanswered: HTTPStatus.SERVICE_UNAVAILABLE,
}

Text = Annotated[str, Field(min_length=1, max_length=200, pattern=r"^[^\x00-\x1f\x7f]+$")]
OrderId = Annotated[str, Path(pattern=r"^[A-Za-z0-9-]{1,64}$")]
IdempotencyKey = Annotated[
    str | None,
    Header(min_length=1, max_length=255, description="The same order is placed once, however often it is sent"),
]
Traceparent = Annotated[str, Header(include_in_schema=False)]
Token = Annotated[str, Header(description="What services show each other; without it no contact data is answered")]


class Body(BaseModel):
    """Base of what is sent and answered: camelCase, and nothing that is not known."""

    model_config = ConfigDict(
        alias_generator=to_camel, validate_by_name=True, serialize_by_alias=True, extra="forbid", from_attributes=True
    )


class CustomerBody(Body):
    """Who orders. Without a `customerId` the e-mail address says who it is."""

    name: Text
    email: Annotated[str, Field(max_length=254, pattern=r"^[^@\s,;<>]+@[^@\s,;<>]+$", examples=["ada@example.org"])]
    customer_id: Annotated[str, Field(pattern=r"^[A-Za-z0-9-]{1,64}$")] | None = None


class AddressBody(Body):
    """Where to deliver."""

    street: Text
    city: Text
    postcode: Text


class WantedBody(Body):
    """So many of one pizza. The price is the menu's, it cannot be sent."""

    sku: Annotated[str, Field(min_length=1, max_length=64, examples=["margherita"])]
    quantity: Annotated[int, Field(ge=1, le=100)]


class PlaceOrder(Body):
    """An order as a customer sends it; how many pizzas it may have is the domain's rule."""

    customer: CustomerBody
    fulfilment: Literal["pickup", "delivery"]
    address: AddressBody | None = None
    lines: Annotated[list[WantedBody], Field(max_length=100)]
    payment_token: Annotated[str, Field(min_length=1, max_length=200, examples=["tok_ok"])]


class OrderAccepted(Body):
    """What has become of it so far; payment, kitchen and all the rest follow."""

    order_id: str
    status: Status
    total_cents: int


class LineBody(Body):
    """So many of one pizza, at the price that held."""

    sku: str
    name: str
    quantity: int
    unit_price_cents: int


class CancellationBody(Body):
    """Why, how far the order had come, and when."""

    reason: Reason
    stage: Status
    at: datetime


class OrderBody(OrderAccepted):
    """The whole order: also what a reader of the sparse `orders.orderConfirmed.v1` comes for.

    Who and where the customer is, only services are told, by their `dapr-api-token`: an order's id stands on the board.
    """

    customer: CustomerBody | None
    fulfilment: Fulfilment
    address: AddressBody | None
    lines: list[LineBody]
    currency: str
    placed_at: datetime
    confirmed_at: datetime | None
    completed_at: datetime | None
    given_away_at: datetime | None
    cancellation: CancellationBody | None


@router.post("/orders", status_code=HTTPStatus.ACCEPTED, summary="Place an order")
async def place_order(
    body: PlaceOrder,
    request: Request,
    response: Response,
    service: CurrentService,
    idempotency_key: IdempotencyKey = None,
    traceparent: Traceparent = "",
) -> OrderAccepted:
    """Accept an order; its payment is taken afterwards, and everything else follows from that."""
    ids = await _ids(request, service)
    draft = _draft(body, ids)
    placing = Placing(
        order_id=ids.order_id(draft.customer.customer_id, idempotency_key),
        draft=draft,
        payment_token=body.payment_token,
        pay_within=timedelta(seconds=request.app.state.settings.payment_timeout),
    )
    place: Place = request.app.state.place
    order = await place(service, placing, traceparent)
    response.headers["location"] = f"/orders/{order.order_id}"
    return OrderAccepted.model_validate(order)


@router.get("/orders/{order_id}", summary="Look at an order")
async def get_order(order_id: OrderId, service: CurrentService, dapr_api_token: Token = "") -> OrderBody:
    """Answer all there is to know about an order, as orders sees it."""
    return _shown(await service.execute(use_cases.find, order_id), service, dapr_api_token)


@router.post("/orders/{order_id}/cancel", summary="Cancel an order, until it has left the house")
async def cancel_order(
    order_id: OrderId, service: CurrentService, traceparent: Traceparent = "", dapr_api_token: Token = ""
) -> OrderBody:
    """Cancel an order; the kitchen stops, and payments gives back what it took."""
    order = await service.execute(use_cases.cancel, order_id, correlation_id=order_id, traceparent=traceparent)
    return _shown(order, service, dapr_api_token)


def _shown(order: Order, service: Service, token: str) -> OrderBody:
    body, own = OrderBody.model_validate(order), service.settings.app_api_token
    if own is not None and secrets.compare_digest(own.get_secret_value().encode(), token.encode()):
        return body
    return body.model_copy(update={"customer": None, "address": None})


async def place_by_events(service: Service, placing: Placing, traceparent: str) -> Order:
    """Place an order and wait for nobody."""
    return await service.execute(use_cases.place, placing, correlation_id=placing.order_id, traceparent=traceparent)


async def refused(_request: Request, error: Exception) -> Response:
    """Answer what the domain refuses."""
    status = next(status for kind, status in STATUSES.items() if isinstance(error, kind))
    headers = {"Retry-After": "1"} if status is HTTPStatus.SERVICE_UNAVAILABLE else {}
    return problem(status, str(error), headers=headers)


async def _ids(request: Request, service: Service) -> IdSecret:
    state = request.app.state
    if not hasattr(state, "ids"):
        state.ids = await service.execute(id_secret, None)
    found: IdSecret = state.ids
    return found


def _draft(body: PlaceOrder, ids: IdSecret) -> Draft:
    customer = body.customer
    quantities: dict[str, int] = {}
    for line in body.lines:
        quantities[line.sku] = quantities.get(line.sku, 0) + line.quantity
    return Draft(
        customer=Customer(customer.customer_id or ids.customer_id(customer.email), customer.name, customer.email),
        fulfilment=Fulfilment(body.fulfilment),
        quantities=quantities,
        address=_address(body),
    )


def _address(body: PlaceOrder) -> Address | None:
    """The address of a delivery; one that came with a pickup is of no use and is not kept."""
    if body.address is None or body.fulfilment == "pickup":
        return None
    return Address(body.address.street, body.address.city, body.address.postcode)
