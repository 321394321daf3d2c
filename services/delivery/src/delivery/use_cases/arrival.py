"""Direct publishing of `delivery.driverCameOnDuty`, without the outbox.

The direct outbox strategy loses an event if the sidecar is unavailable after the commit. That is acceptable here
only: the caller of `POST /drivers/{id}/on-duty` waits for the response and can repeat the request, and the roster
keeps the event id, so that the repeated event is a duplicate. All other events either block an order or cannot be
requested again: a driver who went off duty is no longer in the roster, and no caller waits for the opening drivers.
"""

from weakref import WeakKeyDictionary

from delivery import events
from delivery.domain import Driver
from tidings import Service
from tidings.context import request, utc_now
from tidings.messages.delivery import DeliveryContext
from tidings.outbox.direct import DirectOutbox

_direct: WeakKeyDictionary[Service, DirectOutbox] = WeakKeyDictionary()


async def publish_arrival(driver: Driver, service: Service) -> None:
    """Publish that a driver came on duty. Idempotent: the event id is kept in the roster.

    Raises:
        SidecarUnavailable: The event may not have been published; `PublishingPaused` means that it was not attempted.

    """
    outbox = _direct.setdefault(service, DirectOutbox.from_settings(service.sidecar, service.settings))
    event = events.DriverCameOnDuty(driver_id=driver.driver_id, name=driver.name, at=driver.since)
    async with outbox.unit(DeliveryContext(service.name, request()), utc_now()) as context:
        context.publish(event, event_id=driver.arrival)
        await context.commit()
