"""What each event says about its order: in words, and how far the order is."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from tracking import consumed as read
from tracking.domain import Content, Fact, Stage
from tracking.words import because, euros

_EMAILS = {
    "orderConfirmed": "We sent you an e-mail: your order is confirmed.",
    "orderCancelled": "We sent you an e-mail: your order was cancelled.",
    "orderCompleted": "We sent you an e-mail: thank you.",
}


def _content(event: read.WithContent) -> Content:
    return Content(fulfilment=event.fulfilment, total_cents=event.total_cents, lines=event.lines)


def _checked(event: read.QualityChecked) -> tuple[str, Fact]:
    if event.passed:
        return "It passed our check.", Fact(stage=Stage.CHECKED)
    return "It did not pass our check: we make it right first.", Fact(stage=Stage.BAKING)


_TOLD: dict[type[Any], Callable[[Any], tuple[str, Fact]]] = {
    read.OrderPlaced: lambda it: (
        f"You ordered for {euros(it.total_cents)}.",
        Fact(stage=Stage.PLACED, content=_content(it)),
    ),
    read.PaymentAuthorised: lambda it: (f"{euros(it.amount_cents)} are reserved on your card.", Fact(stage=Stage.PAID)),
    read.PaymentRefused: lambda it: (f"The payment was refused: {because(it.reason)}.", Fact()),
    read.OrderConfirmed: lambda it: ("We confirmed the order.", Fact(stage=Stage.CONFIRMED, content=_content(it))),
    read.PreparationStarted: lambda _: ("The kitchen started.", Fact(stage=Stage.PREPARING)),
    read.PizzaPrepared: lambda _: ("It went into the oven.", Fact(stage=Stage.BAKING)),
    read.PizzaBaked: lambda _: ("It came out of the oven.", Fact(stage=Stage.BAKING)),
    read.QualityChecked: _checked,
    read.PizzaBoxed: lambda it: (f"It is in {_boxes(it.boxes)}.", Fact(stage=Stage.BOXED)),
    read.OrderRejected: lambda it: (f"The kitchen cannot make it: {because(it.reason)}.", Fact()),
    read.PreparationStopped: lambda _: ("The kitchen stopped working on it.", Fact()),
    read.OrderShelved: lambda it: (
        f"It waits for you on shelf {it.shelf}.",
        Fact(stage=Stage.SHELVED, pickup_code=it.code),
    ),
    read.OrderPickedUp: lambda _: ("You collected it.", Fact(stage=Stage.COLLECTED)),
    read.CollectionExpired: lambda _: ("Nobody came to collect it in time.", Fact()),
    read.DriverAssigned: lambda it: (f"{it.driver_name} will bring it to you.", Fact(stage=Stage.DRIVER_ASSIGNED)),
    read.OrderCollectedByDriver: lambda _: ("The driver set off with it.", Fact(stage=Stage.OUT_FOR_DELIVERY)),
    read.OrderDelivered: lambda _: ("It was delivered.", Fact(stage=Stage.DELIVERED)),
    read.DeliveryFailed: lambda it: (f"It could not be delivered: {because(it.reason)}.", Fact()),
    read.OrderCompleted: lambda _: ("The order is complete.", Fact(stage=Stage.COMPLETED)),
    read.OrderCancelled: lambda it: ("The order was cancelled.", Fact(stage=Stage.CANCELLED, reason=it.reason)),
    read.PaymentSettled: lambda it: (f"{euros(it.amount_cents)} were taken from your card.", Fact()),
    read.PaymentVoided: lambda it: (f"{euros(it.amount_cents)} are no longer reserved on your card.", Fact()),
    read.PaymentRefunded: lambda it: (f"{euros(it.amount_cents)} were given back to you.", Fact()),
    read.PointsAdded: lambda it: (f"You earned {it.points} points.", Fact()),
    read.EmailSent: lambda it: (_EMAILS.get(it.template, "We sent you an e-mail."), Fact()),
}

READ = tuple(_TOLD)
"""Every event of an order's way."""


def tell(event: read.OrderEvent) -> tuple[str, Fact]:
    """Put an event into words, with what it says beyond them."""
    return _TOLD[type(event)](event)


def _boxes(number: int) -> str:
    return "its box" if number == 1 else f"its {number} boxes"
