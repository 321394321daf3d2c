"""Steps of a delivery: the state change, its event, and the messages scheduled next.

Each function changes one delivery in the unit of work that loaded it, and does nothing if the step was done before.
The roster is updated in a separate unit of work: it is one document shared by all deliveries, and a step must not
fail because another delivery has just changed it.
"""

from delivery import events
from delivery.commands import DriveOn, GiveUp, UpdateRoster
from delivery.domain import Delivery, Failure
from delivery.settings import settings
from tidings import StateContext


def find_driver(delivery: Delivery, context: StateContext) -> None:
    """Request a driver, and schedule the failure of the delivery in case none becomes free in time."""
    update_roster(delivery, context)
    context.schedule(GiveUp(order_id=delivery.order_id), after=settings().longest_wait)


def assign(delivery: Delivery, driver_id: str, driver_name: str, context: StateContext) -> None:
    """Assign the order to a driver; if it no longer needs one, have the roster release the driver."""
    if not delivery.assign(driver_id, driver_name, context.now):
        update_roster(delivery, context)
        return
    context.save(delivery.order_id, delivery)
    context.publish(
        events.DriverAssigned(
            order_id=delivery.order_id, driver_id=driver_id, driver_name=driver_name, assigned_at=context.now
        )
    )
    _schedule_next_leg(delivery, context)


def collect(delivery: Delivery, context: StateContext) -> None:
    """Record that the driver has collected the order.

    Raises:
        WrongStep: The delivery is not assigned.

    """
    if delivery.collect(context.now):
        context.save(delivery.order_id, delivery)
        context.publish(
            events.OrderCollected(order_id=delivery.order_id, driver_id=delivery.driver_id, collected_at=context.now)
        )
        _schedule_next_leg(delivery, context)


def deliver(delivery: Delivery, context: StateContext) -> None:
    """Record that the order was delivered, and release the driver.

    Raises:
        WrongStep: The driver has not collected the order.

    """
    if delivery.deliver(context.now):
        context.save(delivery.order_id, delivery)
        context.publish(
            events.OrderDelivered(order_id=delivery.order_id, driver_id=delivery.driver_id, delivered_at=context.now)
        )
        update_roster(delivery, context)


def fail(delivery: Delivery, failure: Failure, context: StateContext) -> None:
    """Record that the driver could not deliver the order, and release the driver.

    Raises:
        WrongStep: No driver has the order.

    """
    if delivery.fail(failure, context.now):
        _record_failure(delivery, failure, context)


def give_up(delivery: Delivery, context: StateContext) -> None:
    """Fail the delivery if it is still waiting for a driver."""
    if delivery.give_up(context.now):
        _record_failure(delivery, "noDriverAvailable", context)


def update_roster(delivery: Delivery, context: StateContext) -> None:
    """Schedule an update of the roster from this delivery."""
    context.schedule(UpdateRoster(order_id=delivery.order_id))


def _record_failure(delivery: Delivery, failure: Failure, context: StateContext) -> None:
    context.save(delivery.order_id, delivery)
    context.publish(events.DeliveryFailed(order_id=delivery.order_id, reason=failure, failed_at=context.now))
    update_roster(delivery, context)


def _schedule_next_leg(delivery: Delivery, context: StateContext) -> None:
    if settings().autopilot:
        context.schedule(DriveOn(order_id=delivery.order_id, status=delivery.status), after=settings().leg)
