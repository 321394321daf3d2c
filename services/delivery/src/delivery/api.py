"""The drivers' HTTP API."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from typing import Annotated, Literal

from fastapi import APIRouter, HTTPException, Path
from pydantic import BaseModel, ConfigDict, StringConstraints
from pydantic.alias_generators import to_camel

from delivery import progress, rostering, telling
from delivery.domain import Delivery, Driver, Failure, NotOnDuty, Roster, Status, WrongStep
from tidings import Service, StateContext
from tidings.fastapi import CurrentService

router = APIRouter(tags=["delivery"])

DriverId = Annotated[str, Path(pattern=r"^[A-Za-z0-9][A-Za-z0-9_-]{0,63}$")]


class Model(BaseModel):
    """What is sent and answered: camelCase on the wire."""

    model_config = ConfigDict(alias_generator=to_camel, populate_by_name=True, from_attributes=True)


class OnDuty(Model):
    """A driver comes to work."""

    name: Annotated[str, StringConstraints(min_length=1, max_length=100, strip_whitespace=True)]


class Fail(Model):
    """Why a driver could not bring an order; that there was no driver, delivery finds out itself."""

    reason: Literal["addressNotFound", "nobodyHome"]


class DriverAnswer(Model):
    """A driver on duty; `orderId` is empty while he is free, `leaving` says that he goes home after it."""

    driver_id: str
    name: str
    since: datetime
    order_id: str
    leaving: bool


class OffDutyAnswer(Model):
    """Whether a driver has gone, or will once his order is done."""

    driver_id: str
    status: Literal["gone", "leaving"]


class WaitingAnswer(Model):
    """An order that waits for a driver."""

    order_id: str
    since: datetime | None


class RosterAnswer(Model):
    """Drivers on duty, the longest free first, and orders without one, the longest waiting first."""

    drivers: list[DriverAnswer]
    waiting: list[WaitingAnswer]


class AddressAnswer(Model):
    """Where an order goes."""

    street: str
    city: str
    postcode: str


class DeliveryAnswer(Model):
    """One order on its way to the customer."""

    order_id: str
    status: Status
    customer_name: str
    address: AddressAnswer | None
    boxes: int
    driver_id: str
    driver_name: str
    failure: Failure | None
    changed_at: datetime | None


@router.post("/drivers/{driver_id}/on-duty", summary="A driver comes to work")
async def on_duty(driver_id: DriverId, request: OnDuty, service: CurrentService) -> DriverAnswer:
    """Let a driver come, and give him an order if one waits.

    Where that cannot be told at this moment the answer is 503: he is on duty all the same, and asking again tells it.
    """

    async def run(_message: object, context: StateContext) -> Driver:
        return await rostering.come_on_duty(driver_id, request.name, context)

    driver = await service.execute(run, request)
    await telling.arrival(driver, service)
    return DriverAnswer.model_validate(driver)


@router.post("/drivers/{driver_id}/off-duty", summary="A driver goes home, after the order he has")
async def off_duty(driver_id: DriverId, service: CurrentService) -> OffDutyAnswer:
    """Let a driver go."""
    try:
        gone = await service.execute(rostering.go_off_duty, driver_id)
    except NotOnDuty as error:
        raise HTTPException(404, str(error)) from error
    return OffDutyAnswer(driver_id=driver_id, status="gone" if gone else "leaving")


@router.get("/drivers", summary="Who is on duty, and which orders wait")
async def drivers(service: CurrentService) -> RosterAnswer:
    """Show the roster."""
    roster = await service.execute(_roster, None)
    return RosterAnswer(
        drivers=[DriverAnswer.model_validate(each) for each in roster.drivers.values()],
        waiting=[WaitingAnswer(order_id=order_id, since=since) for order_id, since in roster.waiting.items()],
    )


@router.get("/orders/{order_id}", summary="One order on its way to the customer")
async def order(order_id: str, service: CurrentService) -> DeliveryAnswer:
    """Show one delivery."""
    return DeliveryAnswer.model_validate(await service.execute(_known, order_id))


@router.post("/orders/{order_id}/collect", summary="The driver takes the boxes")
async def collect(order_id: str, service: CurrentService) -> DeliveryAnswer:
    """Note that the driver is on the way."""
    return await _step(service, order_id, progress.collect)


@router.post("/orders/{order_id}/deliver", summary="The customer has the boxes")
async def deliver(order_id: str, service: CurrentService) -> DeliveryAnswer:
    """Note that the customer has the order."""
    return await _step(service, order_id, progress.deliver)


@router.post("/orders/{order_id}/fail", summary="The driver cannot bring the order")
async def fail(order_id: str, request: Fail, service: CurrentService) -> DeliveryAnswer:
    """Note why the order does not reach its customer."""
    return await _step(service, order_id, lambda delivery, context: progress.fail(delivery, request.reason, context))


async def _step(service: Service, order_id: str, step: Callable[[Delivery, StateContext], None]) -> DeliveryAnswer:
    """Do a step that a driver reports; reporting it twice gives the same answer."""

    async def run(_message: object, context: StateContext) -> Delivery:
        delivery = await _known(order_id, context)
        context.correlate(delivery.correlation_id)
        step(delivery, context)
        return delivery

    try:
        return DeliveryAnswer.model_validate(await service.execute(run, order_id))
    except WrongStep as error:
        raise HTTPException(409, str(error)) from error


async def _known(order_id: str, context: StateContext) -> Delivery:
    found = await context.load(Delivery, order_id)
    if found is None:
        raise HTTPException(404, f"delivery knows no order {order_id}: it is not confirmed yet, or it is picked up")
    return found


async def _roster(_message: object, context: StateContext) -> Roster:
    return await context.load(Roster, rostering.MAIN) or Roster()
