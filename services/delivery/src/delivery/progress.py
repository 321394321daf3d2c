"""Each step of a delivery: the change, what is told about it, and what has to follow.

Every function changes one delivery in the unit of work that loaded it, and nothing where the step was done before.
The roster follows in a unit of work of its own.
"""

from __future__ import annotations

from delivery import events
from delivery.commands import DriveOn, GiveUp, UpdateRoster
from delivery.domain import Delivery, Failure
from delivery.settings import settings
from tidings import StateContext


def find_driver(delivery: Delivery, context: StateContext) -> None:
    """Look for a driver, but not for ever."""
    update_roster(delivery, context)
    context.schedule(GiveUp(order_id=delivery.order_id), after=settings().longest_wait)


def assign(delivery: Delivery, driver_id: str, driver_name: str, context: StateContext) -> None:
    """Give the order to a driver. Where it needs none any more, the roster has to learn that he is free."""
    if not delivery.assign(driver_id, driver_name, context.now):
        update_roster(delivery, context)
        return
    context.save(delivery.order_id, delivery)
    context.publish(
        events.DriverAssigned(
            order_id=delivery.order_id, driver_id=driver_id, driver_name=driver_name, assigned_at=context.now
        )
    )
    _drive_on(delivery, context)


def collect(delivery: Delivery, context: StateContext) -> None:
    """Let the driver take the boxes.

    Raises:
        WrongStep: It is not the next step.

    """
    if delivery.collect(context.now):
        context.save(delivery.order_id, delivery)
        context.publish(
            events.OrderCollected(order_id=delivery.order_id, driver_id=delivery.driver_id, collected_at=context.now)
        )
        _drive_on(delivery, context)


def deliver(delivery: Delivery, context: StateContext) -> None:
    """Let the customer have the boxes; the driver is free.

    Raises:
        WrongStep: It is not the next step.

    """
    if delivery.deliver(context.now):
        context.save(delivery.order_id, delivery)
        context.publish(
            events.OrderDelivered(order_id=delivery.order_id, driver_id=delivery.driver_id, delivered_at=context.now)
        )
        update_roster(delivery, context)


def fail(delivery: Delivery, failure: Failure, context: StateContext) -> None:
    """Note that the driver could not bring the order; he is free.

    Raises:
        WrongStep: No driver has the order.

    """
    if delivery.fail(failure, context.now):
        _failed(delivery, failure, context)


def give_up(delivery: Delivery, context: StateContext) -> None:
    """Stop looking for a driver, if none was found."""
    if delivery.give_up(context.now):
        _failed(delivery, "noDriverAvailable", context)


def update_roster(delivery: Delivery, context: StateContext) -> None:
    """Let the roster follow the delivery."""
    context.schedule(UpdateRoster(order_id=delivery.order_id))


def _failed(delivery: Delivery, failure: Failure, context: StateContext) -> None:
    context.save(delivery.order_id, delivery)
    context.publish(events.DeliveryFailed(order_id=delivery.order_id, reason=failure, failed_at=context.now))
    update_roster(delivery, context)


def _drive_on(delivery: Delivery, context: StateContext) -> None:
    if settings().autopilot:
        context.schedule(DriveOn(order_id=delivery.order_id, status=delivery.status), after=settings().leg)
