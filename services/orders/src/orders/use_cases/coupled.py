"""Coupled mode: place an order by calling four other services over HTTP, one after the other.

It exists for comparison (`make coupling`). API, domain and messages are the same, but the messages are posted to the
event endpoints of the services instead of the broker, and the customer waits for all of them. If any of the four does
not respond, the order fails: even loyalty, which is not needed to make a pizza.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from http import HTTPStatus
from typing import Any

import httpx2
import msgspec
from pydantic import SecretStr

from orders import use_cases
from orders.domain import Order, OrderError, Reason, Status
from orders.settings import OrdersSettings
from orders.use_cases import Placing, fail, publishing
from tidings import Service, StateContext
from tidings.conventions import event_path
from tidings.messages.envelope import CONTENT_TYPE, UNREADABLE, new_id
from tidings.messages.events import message_type
from tidings.web.answers import PLAIN, AnswerTooLarge, read_bounded

MAX_ANSWER = 65_536
"""Bytes of a service's answer: each is one payment or one member."""


class Unanswered(OrderError):
    """A service called in coupled mode did not respond, or responded unexpectedly."""

    def __init__(self, name: str, why: str) -> None:
        super().__init__(f"{name} did not answer, so the order cannot be placed: {why}")


class Collaborators:
    """Client of the services called in coupled mode.

    Args:
        settings: Addresses and timeout.
        token: API token that their event endpoints require.
        transport: Replacement for the network, for tests.

    """

    def __init__(
        self, settings: OrdersSettings, token: SecretStr | None, transport: httpx2.AsyncBaseTransport | None = None
    ) -> None:
        self._settings = settings
        self._headers = {"dapr-api-token": token.get_secret_value()} if token else {}
        self._client = httpx2.AsyncClient(timeout=settings.patience, transport=transport, trust_env=False)

    @asynccontextmanager
    async def opened(self, _service: Service) -> AsyncIterator[None]:
        """Keep the HTTP client open while the service runs."""
        async with self._client:
            yield

    async def place(self, service: Service, placing: Placing, traceparent: str) -> Order:
        """Place an order and wait for its confirmation; implements `orders.api.Place`.

        Raises:
            Unanswered: One of the four services did not respond; the order is cancelled.
            OrderError: As raised by `use_cases.place`.

        """
        metadata = {"correlation_id": placing.order_id, "traceparent": traceparent}
        order, is_new = await service.execute(use_cases.record, placing, **metadata)
        if not is_new:
            return order
        try:
            return await self._call_services(service, placing, order, metadata)
        except Unanswered:
            order = await service.execute(_give_up, placing.order_id, **metadata)
            # The other services also publish events. They may have completed the order despite the lost response.
            if order.status is Status.COMPLETED:
                return order
            raise

    async def _call_services(self, service: Service, placing: Placing, order: Order, metadata: dict[str, str]) -> Order:
        settings = self._settings

        async def send(name: str, url: str, message: object) -> None:
            # The endpoint is the one that a sidecar would call, and it answers once the event has been handled.
            address = f"{url}{event_path(message_type(type(message)).topic)}"
            answer = await self._call(name, "POST", address, await service.execute(_encode, message, **metadata))
            if answer.get("status") != "SUCCESS":
                raise Unanswered(name, f"POST {address} answered {answer}")

        await send("payments", settings.payments_url, publishing.payment(order, placing.payment_token))
        payment = await self._get("payments", f"{settings.payments_url}/payments/{order.order_id}")
        if payment.get("status") == "refused":
            return await service.execute(_refuse, order.order_id, **metadata)
        if payment.get("status") != "authorised":
            raise Unanswered("payments", f"the payment is neither authorised nor refused but {payment}")
        order = await service.execute(_confirm, order.order_id, **metadata)
        if order.status is Status.CANCELLED:  # the customer was faster
            return order
        await send("kitchen", settings.kitchen_url, publishing.confirmed(order)[-1])
        await self._get("loyalty", f"{settings.loyalty_url}/members/{order.customer.customer_id}")
        await send("notifications", settings.notifications_url, publishing.email(order, "orderConfirmed"))
        return order

    async def _get(self, name: str, address: str) -> dict[str, Any]:
        return await self._call(name, "GET", address)

    async def _call(self, name: str, method: str, address: str, body: bytes | None = None) -> dict[str, Any]:
        headers = {**PLAIN, **self._headers, "content-type": CONTENT_TYPE}
        try:
            async with asyncio.timeout(self._settings.patience):
                request = self._client.build_request(method, address, content=body, headers=headers)
                response = await self._client.send(request, stream=True)
                content = await read_bounded(response, MAX_ANSWER)
        except (httpx2.HTTPError, AnswerTooLarge, TimeoutError) as error:
            raise Unanswered(name, f"{method} {address}: {type(error).__name__}: {error}") from error
        if response.status_code == HTTPStatus.NOT_FOUND and method == "GET":
            return {}  # the service responds, but does not know the order or customer
        if not response.is_success:
            raise Unanswered(name, f"{method} {address} answered {response.status_code}")
        try:
            return msgspec.json.decode(content, type=dict[str, Any])
        except UNREADABLE as error:
            raise Unanswered(name, f"{method} {address} answered no JSON object: {error}") from error


async def _encode(message: object, context: StateContext) -> bytes:
    return bytes(context.encode(message_type(type(message)), message, new_id()))


async def _confirm(order_id: str, context: StateContext) -> Order:
    # Payments' event may arrive first; then the order is confirmed already. The e-mail is sent by the caller.
    order = await use_cases.find(order_id, context)
    if order.confirm(context.now):
        context.save(order_id, order)
        context.publish(*publishing.confirmed(order))
    return order


async def _refuse(order_id: str, context: StateContext) -> Order:
    return await fail(order_id, context, Reason.PAYMENT_REFUSED)


async def _give_up(order_id: str, context: StateContext) -> Order:
    return await fail(order_id, context, Reason.SERVICE_UNAVAILABLE)
