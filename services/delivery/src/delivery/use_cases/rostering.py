"""Changes of the roster: drivers going on and off duty, deliveries starting and ending."""

import asyncio
from collections.abc import Iterable

from delivery import events
from delivery.commands import HandOver
from delivery.domain import Delivery, Driver, Roster
from delivery.settings import settings
from tidings import StateContext
from tidings.messages.envelope import new_id

MAIN = "main"
"""State key of the single roster document."""


async def open_roster(context: StateContext) -> None:
    """Put the opening drivers on duty on the very first start."""
    if settings().opening_drivers and await context.load(Roster, MAIN) is None:
        context.save(MAIN, await _load_or_open(context))


async def come_on_duty(driver_id: str, name: str, context: StateContext) -> Driver:
    """Put a driver on duty and assign waiting orders. Idempotent; the caller publishes the event."""
    roster = await _load_or_open(context)
    roster.come_on_duty(driver_id, name, context.now, new_id())
    _assign(roster, context)
    context.save(MAIN, roster)
    return roster.drivers[driver_id]


async def go_off_duty(driver_id: str, context: StateContext) -> bool:
    """Take a driver off duty; return False if an order has to be finished first.

    Raises:
        NotOnDuty: The driver is not on duty.

    """
    roster = await _load_or_open(context)
    is_off_duty = roster.go_off_duty(driver_id)
    if is_off_duty:
        context.publish(events.DriverWentOffDuty(driver_id=driver_id, at=context.now))
    context.save(MAIN, roster)
    return is_off_duty


async def update(order_ids: Iterable[str], context: StateContext) -> None:
    """Update the roster from these deliveries, and assign free drivers to waiting orders."""
    # Load the roster before the deliveries and always write it. Of two concurrent updates, the later writer then gets
    # a conflict and reads the deliveries again; in any other order the roster could keep an outdated delivery state.
    roster = await _load_or_open(context)
    deliveries = await asyncio.gather(*(context.load(Delivery, order_id) for order_id in dict.fromkeys(order_ids)))
    for delivery in deliveries:
        leaver = roster.apply(delivery) if delivery is not None else None
        if leaver is not None:
            context.publish(events.DriverWentOffDuty(driver_id=leaver.driver_id, at=context.now))
    _assign(roster, context)
    context.save(MAIN, roster)


async def _load_or_open(context: StateContext) -> Roster:
    """Load the roster, or create it with the opening drivers and publish their arrival."""
    roster = await context.load(Roster, MAIN)
    if roster is not None:
        return roster
    roster = Roster()
    for driver_id, name in settings().opening_drivers.items():
        event_id = context.publish(events.DriverCameOnDuty(driver_id=driver_id, name=name, at=context.now))
        roster.come_on_duty(driver_id, name, context.now, event_id)
    return roster


def _assign(roster: Roster, context: StateContext) -> None:
    for assignment in roster.assign():
        context.schedule(
            HandOver(order_id=assignment.order_id, driver_id=assignment.driver_id, driver_name=assignment.driver_name)
        )
