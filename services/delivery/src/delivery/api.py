"""The drivers' HTTP API."""

from collections.abc import Callable
from datetime import datetime
from http import HTTPStatus
from typing import Annotated, Literal

from fastapi import APIRouter, Path
from pydantic import StringConstraints

from delivery.domain import Delivery, Driver, Failure, NotOnDuty, Roster, Status, WrongStep
from delivery.use_cases import arrival, progress, rostering
from tidings import Service, StateContext
from tidings.fastapi import CamelModel, CurrentService

router = APIRouter(tags=["delivery"])
ERRORS: dict[type[Exception], HTTPStatus] = {NotOnDuty: HTTPStatus.NOT_FOUND, WrongStep: HTTPStatus.CONFLICT}

DriverId = Annotated[str, Path(pattern=r"^[A-Za-z0-9][A-Za-z0-9_-]{0,63}$")]


class OnDutyRequest(CamelModel):
    """Request of a driver who comes on duty."""

    name: Annotated[str, StringConstraints(min_length=1, max_length=100, strip_whitespace=True)]


class FailRequest(CamelModel):
    """Reason why a driver could not deliver. `noDriverAvailable` is missing: only the service itself can find that."""

    reason: Literal["addressNotFound", "nobodyHome"]


class DriverResponse(CamelModel):
    """A driver on duty: `orderId` is empty while free, `leaving` is true if going off duty after that order."""

    driver_id: str
    name: str
    since: datetime
    order_id: str
    leaving: bool


class OffDutyResponse(CamelModel):
    """Off-duty status: `leaving` until the current order is done, then `gone`."""

    driver_id: str
    status: Literal["gone", "leaving"]


class WaitingOrderResponse(CamelModel):
    """An order waiting for a driver."""

    order_id: str
    since: datetime | None


class RosterResponse(CamelModel):
    """Drivers on duty (longest idle first) and orders without a driver (longest waiting first)."""

    drivers: list[DriverResponse]
    waiting: list[WaitingOrderResponse]


class AddressResponse(CamelModel):
    """Delivery address."""

    street: str
    city: str
    postcode: str


class DeliveryResponse(CamelModel):
    """State of one delivery."""

    order_id: str
    status: Status
    customer_name: str
    address: AddressResponse | None
    boxes: int
    driver_id: str
    driver_name: str
    failure: Failure | None
    changed_at: datetime | None


@router.post("/drivers/{driver_id}/on-duty", summary="Put a driver on duty")
async def on_duty(driver_id: DriverId, request: OnDutyRequest, service: CurrentService) -> DriverResponse:
    """Put a driver on duty and assign a waiting order, if there is one.

    Responds 503 if the event cannot be published now. The driver is on duty nevertheless; repeat the request to
    publish the event.
    """

    async def run(_message: object, context: StateContext) -> Driver:
        return await rostering.come_on_duty(driver_id, request.name, context)

    driver = await service.execute(run, request)
    # After the commit and outside the outbox: `arrival` explains why this event needs no outbox.
    await arrival.publish_arrival(driver, service)
    return DriverResponse.model_validate(driver)


@router.post("/drivers/{driver_id}/off-duty", summary="Take a driver off duty after the current order")
async def off_duty(driver_id: DriverId, service: CurrentService) -> OffDutyResponse:
    """Take a driver off duty, or mark the driver as leaving while an order is under way."""
    is_off_duty = await service.execute(rostering.go_off_duty, driver_id)
    return OffDutyResponse(driver_id=driver_id, status="gone" if is_off_duty else "leaving")


@router.get("/drivers", summary="List drivers on duty and waiting orders")
async def drivers(service: CurrentService) -> RosterResponse:
    """Return the roster."""
    roster = await service.execute(_roster, None)
    return RosterResponse(
        drivers=[DriverResponse.model_validate(driver) for driver in roster.drivers.values()],
        waiting=[WaitingOrderResponse(order_id=order_id, since=since) for order_id, since in roster.waiting.items()],
    )


@router.get("/orders/{order_id}", summary="Get a delivery")
async def order(order_id: str, service: CurrentService) -> DeliveryResponse:
    """Return one delivery; 404 if the order is unknown."""
    return DeliveryResponse.model_validate(await service.execute(_load_delivery, order_id))


@router.post("/orders/{order_id}/collect", summary="Record that the driver has collected the order")
async def collect(order_id: str, service: CurrentService) -> DeliveryResponse:
    """Record that the driver is on the way; 409 if no driver has the order."""
    return await _step(service, order_id, progress.collect)


@router.post("/orders/{order_id}/deliver", summary="Record that the order was delivered")
async def deliver(order_id: str, service: CurrentService) -> DeliveryResponse:
    """Record that the customer has the order; 409 if it was not collected."""
    return await _step(service, order_id, progress.deliver)


@router.post("/orders/{order_id}/fail", summary="Record that the delivery failed")
async def fail(order_id: str, request: FailRequest, service: CurrentService) -> DeliveryResponse:
    """Record why the order could not be delivered; 409 if no driver has it."""
    return await _step(service, order_id, lambda delivery, context: progress.fail(delivery, request.reason, context))


async def _step(service: Service, order_id: str, step: Callable[[Delivery, StateContext], None]) -> DeliveryResponse:
    """Apply a step reported by a driver. Repeated reports get the same response."""

    async def run(_message: object, context: StateContext) -> Delivery:
        delivery = await _load_delivery(order_id, context)
        context.correlate(delivery.correlation_id)
        step(delivery, context)
        return delivery

    return DeliveryResponse.model_validate(await service.execute(run, order_id))


async def _load_delivery(order_id: str, context: StateContext) -> Delivery:
    missing = f"no delivery for order {order_id}: it is not confirmed yet, or is for pickup"
    return await context.require(Delivery, order_id, missing)


async def _roster(_message: object, context: StateContext) -> Roster:
    return await context.load(Roster, rostering.MAIN) or Roster()
