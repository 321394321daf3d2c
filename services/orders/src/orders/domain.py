"""Domain rules of orders: life cycle and prices. Pure: no I/O, no events, no clock.

An order is a state machine: placed, confirmed, preparing, boxed, out for delivery, completed; or cancelled. Kitchen,
pickup and delivery report the steps after the confirmation. Reports may arrive twice and overtake each other: a report
moves the order forward to the reported status, never back.

Orders' copy of the menu is built from events that may arrive twice and in any order, too. Each carries the time of the
change; the latest wins. Ties are broken by value, so that every order of arrival leads to the same menu.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import datetime
from enum import StrEnum
from typing import Annotated, TypeVar

import msgspec

from tidings.marks import PERSONAL, SUBJECT


class OrderError(Exception):
    """Base of all domain errors. Their messages may be shown to customers."""


class InvalidOrder(OrderError):
    """The order has no pizza, too many pizzas, or no delivery address."""


class UnknownSku(OrderError):
    """An ordered item is not on the menu."""

    def __init__(self, skus: Iterable[str]) -> None:
        super().__init__(f"not on the menu: {', '.join(sorted(skus))}; GET /menu lists all items")


class SoldOut(OrderError):
    """An ordered item is sold out."""

    def __init__(self, names: Iterable[str]) -> None:
        super().__init__(f"sold out: {', '.join(sorted(names))}; choose something else, or try again later")


class MenuMissing(OrderError):
    """No recipe has arrived from the menu service yet, so no order can be priced."""

    def __init__(self) -> None:
        super().__init__("the menu has not arrived yet; try again in a moment")


class KeyReused(OrderError):
    """The idempotency key was used for a different order."""

    def __init__(self) -> None:
        super().__init__("this Idempotency-Key belongs to a different order; use a new key for a new order")


class OrderUnknown(OrderError):
    """There is no such order."""

    def __init__(self, order_id: str) -> None:
        super().__init__(f"there is no order {order_id}")


class TooLate(OrderError):
    """The customer can no longer cancel."""


class NotConfirmed(OrderError):
    """A step was reported for an order that is not confirmed."""


MAX_PIZZAS = 100
CURRENCY = "EUR"


class Fulfilment(StrEnum):
    """Kind of fulfilment."""

    PICKUP = "pickup"
    DELIVERY = "delivery"


class Status(StrEnum):
    """Status of an order, in the order of progress; the two final ones last."""

    PLACED = "placed"
    CONFIRMED = "confirmed"
    PREPARING = "preparing"
    BOXED = "boxed"
    OUT_FOR_DELIVERY = "outForDelivery"
    COMPLETED = "completed"
    CANCELLED = "cancelled"


class Reason(StrEnum):
    """Reason of a cancellation."""

    PAYMENT_REFUSED = "paymentRefused"
    PAYMENT_TIMEOUT = "paymentTimeout"
    CUSTOMER_CANCELLED = "customerCancelled"
    KITCHEN_CLOSED = "kitchenClosed"
    ITEM_SOLD_OUT = "itemSoldOut"
    NO_DRIVER_AVAILABLE = "noDriverAvailable"
    NOT_COLLECTED = "notCollected"
    DELIVERY_FAILED = "deliveryFailed"
    SERVICE_UNAVAILABLE = "serviceUnavailable"


_PROGRESS = list(Status)
_FINAL = {Status.COMPLETED, Status.CANCELLED}
_PAYMENT_REASONS = {Reason.PAYMENT_REFUSED, Reason.PAYMENT_TIMEOUT}
_REACHED_BEFORE = {
    Reason.NOT_COLLECTED: Status.BOXED,
    Reason.NO_DRIVER_AVAILABLE: Status.BOXED,
    Reason.DELIVERY_FAILED: Status.OUT_FOR_DELIVERY,
}
"""Status that an order must have reached for this failure, although the report of that status may arrive later."""
_TOO_LATE = {
    Status.OUT_FOR_DELIVERY: "the driver is on the way with it",
    Status.COMPLETED: "it has been handed over",
}


class Customer(msgspec.Struct, frozen=True):
    """The customer of an order."""

    customer_id: Annotated[str, SUBJECT]
    name: Annotated[str, PERSONAL]
    email: Annotated[str, PERSONAL]


class Address(msgspec.Struct, frozen=True):
    """Delivery address."""

    street: Annotated[str, PERSONAL]
    city: Annotated[str, PERSONAL]
    postcode: Annotated[str, PERSONAL]


class Line(msgspec.Struct, frozen=True):
    """Quantity of one kind of pizza, at the price when it was ordered (cents, including tax)."""

    sku: str
    name: str
    quantity: int
    unit_price_cents: int


class Draft(msgspec.Struct, frozen=True):
    """An order as requested, not yet priced: quantities by sku.

    Raises:
        InvalidOrder: Fewer than 1 or more than 100 pizzas in all, or a delivery without an address.

    """

    customer: Customer
    fulfilment: Fulfilment
    quantities: Mapping[str, int]
    address: Address | None = None

    def __post_init__(self) -> None:
        """Validate the quantities and the address."""
        pizzas = sum(self.quantities.values())
        if not 1 <= pizzas <= MAX_PIZZAS or min(self.quantities.values()) < 1:
            raise InvalidOrder(f"an order has 1 to {MAX_PIZZAS} pizzas, at least 1 of each kind; this one has {pizzas}")
        if self.fulfilment is Fulfilment.DELIVERY and self.address is None:
            raise InvalidOrder("a delivery needs an address; give one, or collect the order with fulfilment pickup")


class Cancellation(msgspec.Struct, frozen=True):
    """Reason, stage and time of a cancellation."""

    reason: Reason
    stage: Status
    at: datetime


class Order(msgspec.Struct, kw_only=True):
    """An order. Methods that change it are idempotent and return whether they changed anything.

    Attributes:
        request_digest: Digest of the request, for detecting another request under the same idempotency key.
        completed_at: Time of the handover to the customer.
        given_away_at: Time of the handover if the order had been cancelled before.

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
        """Create an order from a request and its priced lines."""
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
        """Check that a request under the same idempotency key equals the one that placed this order.

        Raises:
            KeyReused: The requests differ.

        """
        if request_digest != self.request_digest:
            raise KeyReused

    def confirm(self, now: datetime) -> bool:
        """Record the authorised payment. No effect on a cancelled order, whose payment is voided or refunded."""
        if self.status is not Status.PLACED:
            return False
        self.status, self.confirmed_at = Status.CONFIRMED, now
        return True

    def reach(self, step: Status) -> bool:
        """Record that the order has reached a status.

        Raises:
            NotConfirmed: The order is not confirmed, so no service can have started on it.

        """
        if self.status is Status.PLACED:
            raise NotConfirmed(f"order {self.order_id} is not confirmed yet, it cannot be {step} already")
        if self.status in _FINAL or _PROGRESS.index(step) <= _PROGRESS.index(self.status):
            return False
        self.status = step
        return True

    def hand_over(self, now: datetime) -> bool:
        """Record the handover to the customer. A cancelled order stays cancelled and is marked as given away.

        Raises:
            NotConfirmed: The order is not confirmed, so no service can have started on it.

        """
        if self.status is Status.CANCELLED and self.given_away_at is None:
            self.given_away_at = now
            return True
        if not self.reach(Status.COMPLETED):
            return False
        self.completed_at = now
        return True

    def cancel(self, now: datetime) -> bool:
        """Cancel the order for its customer.

        Raises:
            TooLate: The order is out for delivery or handed over.

        """
        if self.status in _TOO_LATE:
            raise TooLate(f"order {self.order_id} can no longer be cancelled: {_TOO_LATE[self.status]}")
        return self._end(Reason.CUSTOMER_CANCELLED, now)

    def fail(self, reason: Reason, now: datetime) -> bool:
        """Cancel the order because of a failure."""
        # A late result of the payment must not cancel an order that was confirmed in the meantime.
        if reason in _PAYMENT_REASONS and self.status is not Status.PLACED:
            return False
        step = _REACHED_BEFORE.get(reason)
        if step is not None:
            self.reach(step)
        return self._end(reason, now)

    def _end(self, reason: Reason, now: datetime) -> bool:
        if self.status in _FINAL:
            return False
        self.cancellation = Cancellation(reason, self.status, now)
        self.status = Status.CANCELLED
        return True


class Published(msgspec.Struct, frozen=True, order=True):
    """Name of an item since a time."""

    at: datetime
    name: str


class Price(msgspec.Struct, frozen=True, order=True):
    """Price of an item since a time."""

    at: datetime
    cents: int


class Availability(msgspec.Struct, frozen=True, order=True):
    """Availability of an item since a time."""

    at: datetime
    available: bool


Fact = TypeVar("Fact", Published, Price, Availability)


class Item(msgspec.Struct):
    """An item on the menu. Unknown facts are None; an item without a name or a price cannot be ordered."""

    published: Published | None = None
    price: Price | None = None
    availability: Availability | None = None


class Menu(msgspec.Struct):
    """All items by sku."""

    items: dict[str, Item] = {}

    def publish(self, sku: str, name: str, cents: int, *, available: bool, at: datetime) -> None:
        """Apply a published recipe."""
        item = self._item(sku)
        item.published = _later(item.published, Published(at, name))
        self.change_price(sku, cents, at)
        self.set_available(sku, available=available, at=at)

    def change_price(self, sku: str, cents: int, at: datetime) -> None:
        """Apply a change of price."""
        item = self._item(sku)
        item.price = _later(item.price, Price(at, cents))

    def set_available(self, sku: str, *, available: bool, at: datetime) -> None:
        """Apply a change of availability."""
        item = self._item(sku)
        item.availability = _later(item.availability, Availability(at, available))

    def lines(self, quantities: Mapping[str, int]) -> list[Line]:
        """Return priced order lines.

        Args:
            quantities: Number of pizzas by sku.

        Raises:
            MenuMissing: No recipe is known at all.
            UnknownSku: An item is not on the menu.
            SoldOut: An item is sold out.

        """
        if not any(item.published for item in self.items.values()):
            raise MenuMissing
        lines = {sku: self._line(sku, quantity) for sku, quantity in quantities.items()}
        unknown = [sku for sku, line in lines.items() if line is None]
        if unknown:
            raise UnknownSku(unknown)
        priced = [line for line in lines.values() if line is not None]
        sold_out = [line.name for line in priced if not _available(self.items[line.sku])]
        if sold_out:
            raise SoldOut(sold_out)
        return priced

    def _line(self, sku: str, quantity: int) -> Line | None:
        item = self.items.get(sku, Item())
        if item.published is None or item.price is None:
            return None
        return Line(sku=sku, name=item.published.name, quantity=quantity, unit_price_cents=item.price.cents)

    def _item(self, sku: str) -> Item:
        return self.items.setdefault(sku, Item())


def _available(item: Item) -> bool:
    return item.availability is not None and item.availability.available


def _later(known: Fact | None, new: Fact) -> Fact:
    return new if known is None else max(known, new)
