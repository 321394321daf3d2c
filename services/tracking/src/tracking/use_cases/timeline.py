"""Timeline entries: a description and the data for each event."""

from collections.abc import Callable
from typing import Any

from tracking import consumed
from tracking.domain import DRIVER, Content, Driver, Fact, Stage, because, euros

_EMAILS = {
    "orderConfirmed": "We sent you an e-mail: your order is confirmed.",
    "orderCancelled": "We sent you an e-mail: your order was cancelled.",
    "orderCompleted": "We sent you an e-mail: thank you.",
}


def _content(event: consumed.WithContent) -> Content:
    return Content(fulfilment=event.fulfilment, total_cents=event.total_cents, lines=event.lines)


def _checked(event: consumed.QualityChecked) -> tuple[str, Fact]:
    if event.passed:
        return "It passed our check.", Fact(stage=Stage.CHECKED)
    return "It did not pass our check: we make it right first.", Fact(stage=Stage.BAKING)


_DESCRIPTIONS: dict[type[Any], Callable[[Any], tuple[str, Fact]]] = {
    consumed.OrderPlaced: lambda it: (
        f"You ordered for {euros(it.total_cents)}.",
        Fact(stage=Stage.PLACED, content=_content(it)),
    ),
    consumed.PaymentAuthorised: lambda it: (
        f"{euros(it.amount_cents)} are reserved on your card.",
        Fact(stage=Stage.PAID),
    ),
    consumed.PaymentRefused: lambda it: (f"The payment was refused: {because(it.reason)}.", Fact()),
    consumed.OrderConfirmed: lambda it: ("We confirmed the order.", Fact(stage=Stage.CONFIRMED, content=_content(it))),
    consumed.PreparationStarted: lambda _: ("The kitchen started.", Fact(stage=Stage.PREPARING)),
    consumed.PizzaPrepared: lambda _: ("It went into the oven.", Fact(stage=Stage.BAKING)),
    consumed.PizzaBaked: lambda _: ("It came out of the oven.", Fact(stage=Stage.BAKING)),
    consumed.QualityChecked: _checked,
    consumed.PizzaBoxed: lambda it: (f"It is in {_boxes(it.boxes)}.", Fact(stage=Stage.BOXED)),
    consumed.OrderRejected: lambda it: (f"The kitchen cannot make it: {because(it.reason)}.", Fact()),
    consumed.PreparationStopped: lambda _: ("The kitchen stopped working on it.", Fact()),
    consumed.OrderShelved: lambda it: (
        f"It waits for you on shelf {it.shelf}.",
        Fact(stage=Stage.SHELVED, pickup_code=it.code),
    ),
    consumed.OrderPickedUp: lambda _: ("You collected it.", Fact(stage=Stage.COLLECTED)),
    consumed.CollectionExpired: lambda _: ("Nobody came to collect it in time.", Fact()),
    consumed.DriverAssigned: lambda _: (f"{DRIVER} will bring it to you.", Fact(stage=Stage.DRIVER_ASSIGNED)),
    consumed.OrderCollectedByDriver: lambda _: ("The driver set off with it.", Fact(stage=Stage.OUT_FOR_DELIVERY)),
    consumed.OrderDelivered: lambda _: ("It was delivered.", Fact(stage=Stage.DELIVERED)),
    consumed.DeliveryFailed: lambda it: (f"It could not be delivered: {because(it.reason)}.", Fact()),
    consumed.OrderCompleted: lambda it: (
        "The order is complete.",
        Fact(stage=Stage.COMPLETED, content=Content(fulfilment=it.fulfilment, total_cents=it.total_cents, lines=())),
    ),
    consumed.OrderCancelled: lambda it: ("The order was cancelled.", Fact(stage=Stage.CANCELLED, reason=it.reason)),
    consumed.PaymentSettled: lambda it: (f"{euros(it.amount_cents)} were taken from your card.", Fact()),
    consumed.PaymentVoided: lambda it: (f"{euros(it.amount_cents)} are no longer reserved on your card.", Fact()),
    consumed.PaymentRefunded: lambda it: (f"{euros(it.amount_cents)} were given back to you.", Fact()),
    consumed.PointsAdded: lambda it: (f"You earned {it.points} points.", Fact()),
    consumed.EmailSent: lambda it: (_EMAILS.get(it.template, "We sent you an e-mail."), Fact()),
}

TRACKED_EVENTS = tuple(_DESCRIPTIONS)
"""All events that appear in timelines."""


def describe(event: consumed.OrderEvent) -> tuple[str, Fact]:
    """Return the description of an event for customers, and its data."""
    return _DESCRIPTIONS[type(event)](event)


def driver_of(event: consumed.OrderEvent) -> Driver | None:
    """Return the driver whose name the description shows."""
    return (
        Driver(driver_id=event.driver_id, name=event.driver_name)
        if isinstance(event, consumed.DriverAssigned)
        else None
    )


def _boxes(number: int) -> str:
    return "its box" if number == 1 else f"its {number} boxes"
