"""What changes the roster: drivers who come and go, and deliveries that begin and end."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable

from delivery import events
from delivery.commands import HandOver
from delivery.domain import Delivery, Driver, Roster
from delivery.settings import settings
from tidings import StateContext
from tidings.envelope import new_id

MAIN = "main"
"""The key of the roster, of which there is only one."""


async def open_roster(context: StateContext) -> None:
    """Let the opening drivers come on duty, at the first start ever."""
    if settings().opening_drivers and await context.load(Roster, MAIN) is None:
        context.save(MAIN, await _roster(context))


async def come_on_duty(driver_id: str, name: str, context: StateContext) -> Driver:
    """Let a driver come; whoever waits is given to him. Twice is as once. Who asked for it then tells it."""
    roster = await _roster(context)
    roster.come_on_duty(driver_id, name, context.now, new_id())
    _assign(roster, context)
    context.save(MAIN, roster)
    return roster.drivers[driver_id]


async def go_off_duty(driver_id: str, context: StateContext) -> bool:
    """Let a driver go; false where he finishes an order first.

    Raises:
        NotOnDuty: He is not there.

    """
    roster = await _roster(context)
    gone = roster.go_off_duty(driver_id)
    if gone:
        context.publish(events.DriverWentOffDuty(driver_id=driver_id, at=context.now))
    context.save(MAIN, roster)
    return gone


async def follow(order_ids: Iterable[str], context: StateContext) -> None:
    """Bring the roster in line with deliveries, and give drivers to whoever waits.

    The roster is loaded before the deliveries and written each time: of two replicas the slower one conflicts and
    looks at the deliveries again, so the roster cannot stay behind.
    """
    roster = await _roster(context)
    deliveries = await asyncio.gather(*(context.load(Delivery, order_id) for order_id in dict.fromkeys(order_ids)))
    for delivery in deliveries:
        gone = roster.reflect(delivery) if delivery is not None else None
        if gone is not None:
            context.publish(events.DriverWentOffDuty(driver_id=gone.driver_id, at=context.now))
    _assign(roster, context)
    context.save(MAIN, roster)


async def _roster(context: StateContext) -> Roster:
    """The roster, for a change: a new one begins with the opening drivers, whose arrival is told with the change."""
    roster = await context.load(Roster, MAIN)
    if roster is not None:
        return roster
    roster = Roster()
    for driver_id, name in settings().opening_drivers.items():
        told = context.publish(events.DriverCameOnDuty(driver_id=driver_id, name=name, at=context.now))
        roster.come_on_duty(driver_id, name, context.now, told)
    return roster


def _assign(roster: Roster, context: StateContext) -> None:
    for each in roster.assign():
        context.schedule(HandOver(order_id=each.order_id, driver_id=each.driver_id, driver_name=each.driver_name))
