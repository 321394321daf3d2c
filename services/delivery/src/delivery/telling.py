"""What delivery tells at once, past the outbox: that a driver has come.

The direct strategy is for facts that may be told again, and this is delivery's only one. Whoever sends a driver to work
waits for the answer, and can ask again: the driver is found on duty then, and his arrival is told once more, under the
id that the roster keeps. All else stands in an order's way, or cannot be asked for again: a driver who has gone home is
no longer in the roster, and those who were there at the opening have nobody who waits for an answer.
"""

from __future__ import annotations

from weakref import WeakKeyDictionary

from delivery import events
from delivery.domain import Driver
from tidings import Service
from tidings.context import Cause, request, utc_now
from tidings.outbox.direct import DirectOutbox

_direct: WeakKeyDictionary[Service, DirectOutbox] = WeakKeyDictionary()


async def arrival(driver: Driver, service: Service) -> None:
    """Tell that a driver has come; twice is as once.

    Raises:
        SidecarUnavailable: It may not have been told; with `PublishingPaused` it was not even tried.

    """
    outbox = _direct.setdefault(service, DirectOutbox.from_settings(service.sidecar, service.settings))
    fact = events.DriverCameOnDuty(driver_id=driver.driver_id, name=driver.name, at=driver.since)
    async with outbox.unit(Cause(service.name, request()), utc_now()) as context:
        context.publish(fact, identity=driver.arrival)
        await context.commit()
