"""Reconcile types and apps when a deprecation or removal date is reached."""

import asyncio
from collections.abc import Callable, Iterator
from datetime import UTC, date, datetime, time, timedelta

from tidings_operator.workqueue import Key
from tidings_plan.resources import Inventory
from tidings_plan.resources.inventory import app_key

LOOK = 30.0
"""Seconds between reads of the clock, which may be set, or stand still while the machine sleeps."""


def due(inventory: Inventory, after: date, until: date) -> Iterator[Key]:
    """Yield the keys affected by a date in (after, until]: types, and the apps that read them."""
    for key, event_type in inventory.types.items():
        ends = [version.deprecation for version in event_type.spec.versions if version.deprecation]
        if any(after < day <= until for end in ends for day in (end.effective, end.removal)):
            yield Key("EventType", *key)
            for app in dict.fromkeys(app_key(consumer) for consumer in inventory.consumers(event_type)):
                yield Key("app", *app)


async def turn(inventory: Inventory, add: Callable[[Key], None], clock: Callable[[], datetime]) -> None:
    """Queue affected keys at the beginning of each day (UTC), until cancelled."""
    seen = clock().astimezone(UTC).date()
    while True:
        now = clock().astimezone(UTC)
        for key in list(due(inventory, seen, now.date())):
            add(key)
        seen = max(seen, now.date())
        midnight = datetime.combine(now.date() + timedelta(days=1), time(), UTC)
        await asyncio.sleep(min(LOOK, (midnight - now).total_seconds()))
