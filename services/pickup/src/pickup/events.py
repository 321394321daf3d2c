"""Events published by pickup."""

from tidings import Event, Moment, event


@event("pickup.orderShelved", subject="order_id")
class OrderShelved(Event):
    """The order can be collected."""

    order_id: str
    shelf: str
    code: str
    shelved_at: Moment


@event("pickup.orderCollected", subject="order_id")
class OrderCollected(Event):
    """The customer has the order."""

    order_id: str
    collected_at: Moment


@event("pickup.collectionExpired", subject="order_id")
class CollectionExpired(Event):
    """The order was not collected in time."""

    order_id: str
    expired_at: Moment
