"""The other way to place an order: wait for four other services over HTTP, one after the other.

It exists for the comparison (`make coupling`): the same API, the same domain, the same messages, which here do not
travel through the broker but are posted to each service's door for events, and must be answered before the customer
is. Any one of the four that does not answer fails the order: also loyalty, which a pizza does not need.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from http import HTTPStatus
from typing import Any

import httpx2
import msgspec
from pydantic import SecretStr

from orders import publishing, use_cases
from orders.domain import Order, OrderError, Reason, Status
from orders.handlers import fail
from orders.settings import OrdersSettings
from orders.use_cases import Placing
from tidings import Service, StateContext
from tidings.envelope import CONTENT_TYPE, new_id
from tidings.events import message_type
from tidings.ingress import PREFIX


class Unanswered(OrderError):
    """A service that the coupled mode waits for did not answer, or not as it should."""

    def __init__(self, name: str, why: str) -> None:
        super().__init__(f"{name} did not answer, and without it no order can be placed: {why}")


class Collaborators:
    """The services that the coupled mode waits for.

    Args:
        settings: Where they are, and how long each is waited for.
        token: What they ask of whoever brings them an event.
        transport: For tests; the network by default.

    """

    def __init__(
        self, settings: OrdersSettings, token: SecretStr | None, transport: httpx2.AsyncBaseTransport | None = None
    ) -> None:
        self._settings = settings
        self._headers = {"dapr-api-token": token.get_secret_value()} if token else {}
        self._client = httpx2.AsyncClient(timeout=settings.patience, transport=transport, trust_env=False)

    @asynccontextmanager
    async def opened(self, _service: Service) -> AsyncIterator[None]:
        """Keep the connections while the service runs."""
        async with self._client:
            yield

    async def place(self, service: Service, placing: Placing, traceparent: str) -> Order:
        """Place an order and see it confirmed; a way of placing, as `orders.api.Place` has it.

        Raises:
            Unanswered: One of the four did not answer; the order is cancelled.
            OrderError: What `use_cases.place` refuses.

        """
        metadata = {"correlation_id": placing.order_id, "traceparent": traceparent}
        order, is_new = await service.execute(use_cases.record, placing, **metadata)
        if not is_new:
            return order
        try:
            return await self._see_through(service, placing, order, metadata)
        except Unanswered:
            order = await service.execute(_give_up, placing.order_id, **metadata)
            if order.status is Status.COMPLETED:  # the others were faster: the customer has it
                return order
            raise

    async def _see_through(self, service: Service, placing: Placing, order: Order, metadata: dict[str, str]) -> Order:
        settings = self._settings

        async def tell(name: str, url: str, message: object) -> None:
            await self._tell(name, url, message, await service.execute(_encode, message, **metadata))

        await tell("payments", settings.payments_url, publishing.payment(order, placing.payment_token))
        payment = await self._ask("payments", f"{settings.payments_url}/payments/{order.order_id}")
        if payment.get("status") == "refused":
            return await service.execute(_refuse, order.order_id, **metadata)
        if payment.get("status") != "authorised":
            raise Unanswered("payments", f"the payment is neither authorised nor refused but {payment}")
        order = await service.execute(_confirm, order.order_id, **metadata)
        if order.status is Status.CANCELLED:  # by its customer, meanwhile
            return order
        await tell("kitchen", settings.kitchen_url, publishing.confirmed(order)[-1])
        await self._ask("loyalty", f"{settings.loyalty_url}/members/{order.customer.customer_id}")
        await tell("notifications", settings.notifications_url, publishing.email(order, "orderConfirmed"))
        return order

    async def _tell(self, name: str, url: str, message: object, event: bytes) -> None:
        """Post an event to where a sidecar would deliver it, and wait until it has been handled."""
        address = f"{url}{PREFIX}{message_type(type(message)).topic}"
        answer = await self._call(name, "POST", address, event)
        if answer.get("status") != "SUCCESS":
            raise Unanswered(name, f"POST {address} answered {answer}")

    async def _ask(self, name: str, address: str) -> dict[str, Any]:
        return await self._call(name, "GET", address)

    async def _call(self, name: str, method: str, address: str, body: bytes | None = None) -> dict[str, Any]:
        headers = {**self._headers, "content-type": CONTENT_TYPE}
        try:
            response = await self._client.request(method, address, content=body, headers=headers)
        except httpx2.HTTPError as error:
            raise Unanswered(name, f"{method} {address}: {type(error).__name__}: {error}") from error
        if response.status_code == HTTPStatus.NOT_FOUND and method == "GET":
            return {}  # it answers, and knows nothing of it
        if not response.is_success:
            raise Unanswered(name, f"{method} {address} answered {response.status_code}")
        try:
            return msgspec.json.decode(response.content, type=dict[str, Any])
        except msgspec.MsgspecError as error:
            raise Unanswered(name, f"{method} {address} answered no JSON object: {error}") from error


async def _encode(message: object, context: StateContext) -> bytes:
    return bytes(context.encode(message_type(type(message)), message, new_id()))


async def _confirm(order_id: str, context: StateContext) -> Order:
    """Confirm an order that payments has just authorised, unless its event came first; the e-mail is sent apart."""
    order = await use_cases.find(order_id, context)
    if order.confirm(context.now):
        context.save(order_id, order)
        context.publish(*publishing.confirmed(order))
    return order


async def _refuse(order_id: str, context: StateContext) -> Order:
    return await fail(order_id, context, Reason.PAYMENT_REFUSED)


async def _give_up(order_id: str, context: StateContext) -> Order:
    return await fail(order_id, context, Reason.SERVICE_UNAVAILABLE)
