"""HTTP API of orders."""

import secrets
from collections.abc import Awaitable, Callable
from datetime import datetime, timedelta
from http import HTTPStatus
from typing import Annotated, Literal

from fastapi import APIRouter, Header, Path, Request, Response
from pydantic import Field

from orders import use_cases
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
from orders.use_cases import Placing
from orders.use_cases.coupled import Unanswered
from orders.use_cases.identity import IdSecret, id_secret
from tidings import Service
from tidings.fastapi import ClosedCamelModel, CurrentService

router = APIRouter(tags=["orders"])

Place = Callable[[Service, Placing, str], Awaitable[Order]]
"""Function that places an order, by events or coupled. The last argument is the request's traceparent."""

ERRORS: dict[type[Exception], HTTPStatus] = {
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
    Header(min_length=1, max_length=255, description="Repeated requests with the same key place one order"),
]
Traceparent = Annotated[str, Header(include_in_schema=False)]
Token = Annotated[str, Header(description="API token of services; without it the response has no contact data")]


class CustomerBody(ClosedCamelModel):
    """The customer; identified by the e-mail address if there is no `customerId`."""

    name: Text
    email: Annotated[str, Field(max_length=254, pattern=r"^[^@\s,;<>]+@[^@\s,;<>]+$", examples=["ada@example.org"])]
    customer_id: Annotated[str, Field(pattern=r"^[A-Za-z0-9-]{1,64}$")] | None = None


class CustomerView(ClosedCamelModel):
    """The customer; name and e-mail address are `***` after the customer was forgotten."""

    name: str
    email: str
    customer_id: str


class AddressBody(ClosedCamelModel):
    """Delivery address."""

    street: Text
    city: Text
    postcode: Text


class OrderedItemBody(ClosedCamelModel):
    """Quantity of one kind of pizza. The price is taken from the menu."""

    sku: Annotated[str, Field(min_length=1, max_length=64, examples=["margherita"])]
    quantity: Annotated[int, Field(ge=1, le=100)]


class PlaceOrder(ClosedCamelModel):
    """Request to place an order. The domain limits the number of pizzas."""

    customer: CustomerBody
    fulfilment: Literal["pickup", "delivery"]
    address: AddressBody | None = None
    lines: Annotated[list[OrderedItemBody], Field(max_length=100)]
    payment_token: Annotated[str, Field(min_length=1, max_length=200, examples=["tok_ok"])]


class OrderAccepted(ClosedCamelModel):
    """Status after the order was accepted; payment, kitchen and delivery follow."""

    order_id: str
    status: Status
    total_cents: int


class LineBody(ClosedCamelModel):
    """Quantity of one kind of pizza, at the price when it was ordered."""

    sku: str
    name: str
    quantity: int
    unit_price_cents: int


class CancellationBody(ClosedCamelModel):
    """Reason, stage and time of a cancellation."""

    reason: Reason
    stage: Status
    at: datetime


class OrderBody(OrderAccepted):
    """All data of an order; consumers of the sparse `orders.orderConfirmed.v1` read it here.

    `customer` and `address` are present only for services, which send a `dapr-api-token`: order ids are public on the
    board, so knowing one must not reveal contact data.
    """

    customer: CustomerView | None
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
    """Accept an order. Payment and all further steps follow asynchronously."""
    ids = await _id_secret(request, service)
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


@router.get("/orders/{order_id}", summary="Get an order")
async def get_order(order_id: OrderId, service: CurrentService, dapr_api_token: Token = "") -> OrderBody:
    """Return an order."""
    return _order_body(await service.execute(use_cases.find, order_id), service, dapr_api_token)


@router.post("/orders/{order_id}/cancel", summary="Cancel an order that has not been handed over")
async def cancel_order(
    order_id: OrderId, service: CurrentService, traceparent: Traceparent = "", dapr_api_token: Token = ""
) -> OrderBody:
    """Cancel an order: the kitchen stops working on it, and payments voids or refunds the payment."""
    order = await service.execute(use_cases.cancel, order_id, correlation_id=order_id, traceparent=traceparent)
    return _order_body(order, service, dapr_api_token)


def _order_body(order: Order, service: Service, token: str) -> OrderBody:
    body, expected = OrderBody.model_validate(order), service.settings.app_api_token
    if expected is not None and secrets.compare_digest(expected.get_secret_value().encode(), token.encode()):
        return body
    return body.model_copy(update={"customer": None, "address": None})


async def place_by_events(service: Service, placing: Placing, traceparent: str) -> Order:
    """Place an order without waiting for other services."""
    return await service.execute(use_cases.place, placing, correlation_id=placing.order_id, traceparent=traceparent)


async def _id_secret(request: Request, service: Service) -> IdSecret:
    # Loaded on the first request instead of at startup, since it needs the state store.
    state = request.app.state
    if not hasattr(state, "id_secret"):
        state.id_secret = await service.execute(id_secret, None)
    secret: IdSecret = state.id_secret
    return secret


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
    # The address of a pickup order is not needed, so it is not stored.
    if body.address is None or body.fulfilment == "pickup":
        return None
    return Address(body.address.street, body.address.city, body.address.postcode)
