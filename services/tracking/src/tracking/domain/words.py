"""Texts for customers: current stage and next step of an order."""

from tracking.domain.progress import Stage, TrackedOrder

_DELIVERY = "delivery"

# Stage: message and what happens next; where pickup and delivery differ, both.
_BOTH: dict[Stage, tuple[str, str | None]] = {
    Stage.PLACED: ("We have your order.", "Your payment is being checked."),
    Stage.PAID: ("Your payment went through.", "We confirm your order and tell the kitchen."),
    Stage.CONFIRMED: ("Your order is confirmed.", "The kitchen starts on it in a moment."),
    Stage.PREPARING: ("The kitchen is making your order.", "It goes into the oven next."),
    Stage.BAKING: ("Your order is in the oven.", "We check it when it comes out."),
    Stage.CHECKED: ("Your order is baked and has passed our check.", "It is put into its box."),
    Stage.SHELVED: ("Your order is ready to be picked up.", "Come and say your code while it is hot."),
    Stage.DRIVER_ASSIGNED: ("A driver is coming for your order.", "The driver collects it and sets off."),
    Stage.OUT_FOR_DELIVERY: ("Your order is on its way to you.", "The driver rings your bell."),
    Stage.COLLECTED: ("You have your order. Enjoy your meal!", None),
    Stage.DELIVERED: ("Your order was delivered. Enjoy your meal!", None),
    Stage.COMPLETED: ("All done. We hope it tasted good!", None),
}
_BOXED = {
    _DELIVERY: ("Your order is in its box.", "We are finding a driver for it."),
    "": ("Your order is in its box.", "We put it on the shelf for you."),
}
_CANCELLED: dict[str, tuple[str, str | None]] = {
    "paymentRefused": ("Your order was cancelled: the payment was refused.", "Try another card, and order again."),
    "paymentTimeout": (
        "Your order was cancelled: the payment took too long.",
        "Nothing is charged. Please order again.",
    ),
    "customerCancelled": ("Your order was cancelled, as you wished.", "What you have paid is given back."),
    "kitchenClosed": ("Your order was cancelled: the kitchen is closed.", "What you have paid is given back."),
    "itemSoldOut": (
        "Your order was cancelled: something in it is sold out.",
        "What you have paid is given back. Please choose again.",
    ),
    "noDriverAvailable": ("Your order was cancelled: no driver was free.", "What you have paid is given back."),
    "notCollected": ("Your order was cancelled: nobody came to collect it.", None),
    "deliveryFailed": ("Your order was cancelled: it could not be delivered.", "What you have paid is given back."),
    "serviceUnavailable": ("Your order was cancelled: a part of our shop was down.", "Nothing is charged."),
}
_REASONS = {
    "cardDeclined": "the card was declined",
    "invalidToken": "the card is not known",
    "limitExceeded": "the amount is over the card's limit",
    "kitchenClosed": "nobody is there",
    "itemSoldOut": "an ingredient has run out",
    "noDriverAvailable": "no driver was free",
    "addressNotFound": "the address was not found",
    "nobodyHome": "nobody was at home",
}


def message(order: TrackedOrder) -> tuple[str, str | None]:
    """Return the texts for the stage of an order and its next step, None if there is none."""
    if order.stage is Stage.CANCELLED:
        return _CANCELLED.get(order.reason or "", ("Your order was cancelled.", "What you have paid is given back."))
    if order.stage is Stage.BOXED:
        fulfilment = order.content.fulfilment if order.content else ""
        return _BOXED.get(fulfilment, _BOXED[""])
    return _BOTH[order.stage]


def because(reason: str) -> str:
    """Return the text for a reason; unknown reasons are returned unchanged."""
    return _REASONS.get(reason, reason)


def euros(cents: int) -> str:
    """Format an amount of money."""
    return f"€{cents // 100}.{cents % 100:02}"
