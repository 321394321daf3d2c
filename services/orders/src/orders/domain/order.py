"""An order and its way: placed, confirmed, preparing, boxed, out for delivery, completed; or cancelled on the way.

The steps after the confirmation are reported by kitchen, pickup and delivery. Their reports may come twice and
overtake each other: a report moves the order forward to where it says, never back.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from enum import StrEnum

import msgspec

from orders.domain.errors import InvalidOrder, KeyReused, NotConfirmed, TooLate

MOST_PIZZAS = 100
CURRENCY = "EUR"


class Fulfilment(StrEnum):
    """How the customer gets it."""

    PICKUP = "pickup"
    DELIVERY = "delivery"


class Status(StrEnum):
    """Where an order is. In the order of the way, the two ends last."""

    PLACED = "placed"
    CONFIRMED = "confirmed"
    PREPARING = "preparing"
    BOXED = "boxed"
    OUT_FOR_DELIVERY = "outForDelivery"
    COMPLETED = "completed"
    CANCELLED = "cancelled"


class Reason(StrEnum):
    """Why an order was cancelled."""

    PAYMENT_REFUSED = "paymentRefused"
    PAYMENT_TIMEOUT = "paymentTimeout"
    CUSTOMER_CANCELLED = "customerCancelled"
    KITCHEN_CLOSED = "kitchenClosed"
    ITEM_SOLD_OUT = "itemSoldOut"
    NO_DRIVER_AVAILABLE = "noDriverAvailable"
    NOT_COLLECTED = "notCollected"
    DELIVERY_FAILED = "deliveryFailed"
    SERVICE_UNAVAILABLE = "serviceUnavailable"


_WAY = list(Status)
_ENDS = {Status.COMPLETED, Status.CANCELLED}
_PAYMENT_REASONS = {Reason.PAYMENT_REFUSED, Reason.PAYMENT_TIMEOUT}
_REACHED_BEFORE = {
    Reason.NOT_COLLECTED: Status.BOXED,
    Reason.NO_DRIVER_AVAILABLE: Status.BOXED,
    Reason.DELIVERY_FAILED: Status.OUT_FOR_DELIVERY,
}
"""How far an order must have come for this to go wrong, though the report of that step may still be on its way."""
_TOO_LATE = {
    Status.OUT_FOR_DELIVERY: "the driver is on the way with it",
    Status.COMPLETED: "it has been handed over",
}


class Customer(msgspec.Struct, frozen=True):
    """Who ordered."""

    customer_id: str
    name: str
    email: str


class Address(msgspec.Struct, frozen=True):
    """Where to deliver."""

    street: str
    city: str
    postcode: str


class Line(msgspec.Struct, frozen=True):
    """So many of one pizza, at the price that held when it was ordered (cents, including tax)."""

    sku: str
    name: str
    quantity: int
    unit_price_cents: int


class Draft(msgspec.Struct, frozen=True):
    """What a customer asks for: pizzas by sku, not yet priced.

    Raises:
        InvalidOrder: Fewer than 1 or more than 100 pizzas in all, or a delivery without an address.

    """

    customer: Customer
    fulfilment: Fulfilment
    quantities: Mapping[str, int]
    address: Address | None = None

    def __post_init__(self) -> None:
        """Refuse what nobody could carry out."""
        pizzas = sum(self.quantities.values())
        if not 1 <= pizzas <= MOST_PIZZAS or min(self.quantities.values()) < 1:
            raise InvalidOrder(
                f"an order has 1 to {MOST_PIZZAS} pizzas, at least 1 of each kind; this one has {pizzas}"
            )
        if self.fulfilment is Fulfilment.DELIVERY and self.address is None:
            raise InvalidOrder("a delivery needs an address; give one, or collect the order with fulfilment pickup")


class Cancellation(msgspec.Struct, frozen=True):
    """Why, how far the order had come, and when."""

    reason: Reason
    stage: Status
    at: datetime


class Order(msgspec.Struct, kw_only=True):
    """One order. Every method that changes it says whether it did; asked twice, the second time it does not.

    Attributes:
        request_digest: Tells a repeated request from another one under the same idempotency key.
        completed_at: When the customer got it.
        given_away_at: When the customer got it all the same, although the order was cancelled.

    """

    order_id: str
    customer: Customer
    fulfilment: Fulfilment
    lines: list[Line]
    placed_at: datetime
    address: Address | None = None
    request_digest: str = ""
    status: Status = Status.PLACED
    confirmed_at: datetime | None = None
    completed_at: datetime | None = None
    given_away_at: datetime | None = None
    cancellation: Cancellation | None = None

    @classmethod
    def place(cls, order_id: str, draft: Draft, lines: list[Line], now: datetime, request_digest: str = "") -> Order:
        """Begin an order from what was asked for and what it costs."""
        return cls(
            order_id=order_id,
            customer=draft.customer,
            fulfilment=draft.fulfilment,
            lines=lines,
            placed_at=now,
            address=draft.address,
            request_digest=request_digest,
        )

    @property
    def total_cents(self) -> int:
        return sum(line.quantity * line.unit_price_cents for line in self.lines)

    @property
    def currency(self) -> str:
        return CURRENCY

    def check_repeated(self, request_digest: str) -> None:
        """See whether a request under the same idempotency key is the one that placed this order.

        Raises:
            KeyReused: It is not.

        """
        if request_digest != self.request_digest:
            raise KeyReused

    def confirm(self, now: datetime) -> bool:
        """The payment is authorised. After a cancellation this comes too late: payments gives the money back."""
        if self.status is not Status.PLACED:
            return False
        self.status, self.confirmed_at = Status.CONFIRMED, now
        return True

    def reach(self, step: Status) -> bool:
        """Somebody reports a step of the way.

        Raises:
            NotConfirmed: Nobody can have begun: nobody was told to.

        """
        if self.status is Status.PLACED:
            raise NotConfirmed(f"order {self.order_id} is not confirmed yet, it cannot be {step} already")
        if self.status in _ENDS or _WAY.index(step) <= _WAY.index(self.status):
            return False
        self.status = step
        return True

    def hand_over(self, now: datetime) -> bool:
        """The customer has it. A cancelled order stays cancelled, and remembers that the pizza was given away.

        Raises:
            NotConfirmed: Nobody can have begun: nobody was told to.

        """
        if self.status is Status.CANCELLED and self.given_away_at is None:
            self.given_away_at = now
            return True
        if not self.reach(Status.COMPLETED):
            return False
        self.completed_at = now
        return True

    def cancel(self, now: datetime) -> bool:
        """The customer changes their mind: possible until the pizza has left the house.

        Raises:
            TooLate: It has.

        """
        if self.status in _TOO_LATE:
            raise TooLate(f"order {self.order_id} can no longer be cancelled: {_TOO_LATE[self.status]}")
        return self._end(Reason.CUSTOMER_CANCELLED, now)

    def fail(self, reason: Reason, now: datetime) -> bool:
        """Something went wrong that nobody can mend. What became of the payment ends only an unconfirmed order."""
        if reason in _PAYMENT_REASONS and self.status is not Status.PLACED:
            return False
        step = _REACHED_BEFORE.get(reason)
        if step is not None:
            self.reach(step)
        return self._end(reason, now)

    def _end(self, reason: Reason, now: datetime) -> bool:
        if self.status in _ENDS:
            return False
        self.cancellation = Cancellation(reason, self.status, now)
        self.status = Status.CANCELLED
        return True
