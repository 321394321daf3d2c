"""The progress of orders, merged from events in any order and with duplicates, and its texts for customers.

Pure: no I/O and no clock; `now` is a parameter. All state grows monotonically: the timeline is a set, the stage is the
furthest one, other fields are set once. Two replicas, a replay and live events, or an old and a new generation of the
read model therefore converge.
"""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum
from typing import Annotated, Self

import msgspec

from tidings.marks import PERSONAL, SUBJECT

DRIVER = "{driver}"


class Stage(StrEnum):
    """Stage of an order, in the order of progress. Pickup and delivery use different stages."""

    PLACED = "placed"
    PAID = "paid"
    CONFIRMED = "confirmed"
    PREPARING = "preparing"
    BAKING = "baking"
    CHECKED = "checked"
    BOXED = "boxed"
    SHELVED = "shelved"
    DRIVER_ASSIGNED = "driverAssigned"
    OUT_FOR_DELIVERY = "outForDelivery"
    COLLECTED = "collected"
    DELIVERED = "delivered"
    COMPLETED = "completed"
    CANCELLED = "cancelled"

    @property
    def rank(self) -> int:
        # CANCELLED has the highest rank, so that no late event moves a cancelled order.
        return _PROGRESS.index(self)

    @property
    def finished(self) -> bool:
        return self in (Stage.COMPLETED, Stage.CANCELLED)


_PROGRESS = list(Stage)


class Line(msgspec.Struct, frozen=True, rename="camel"):
    """Quantity of one kind of pizza."""

    sku: str
    name: str
    quantity: int
    unit_price_cents: int


class Driver(msgspec.Struct, frozen=True, kw_only=True):
    """The driver of an order."""

    driver_id: Annotated[str, SUBJECT]
    name: Annotated[str, PERSONAL]


class Entry(msgspec.Struct, frozen=True, kw_only=True):
    """An event in the timeline, with its description, in which `DRIVER` stands for the driver's name."""

    id: str
    type: str
    version: int
    time: datetime
    source: str
    words: str
    driver: Driver | None = None

    @property
    def description(self) -> str:
        return self.words.replace(DRIVER, self.driver.name) if self.driver else self.words

    @property
    def identity(self) -> str:
        # Event ids are unique per source only.
        return f"{self.source} {self.id}"


class Content(msgspec.Struct, frozen=True, kw_only=True):
    """Items and total of an order."""

    fulfilment: str
    total_cents: int
    lines: tuple[Line, ...]


class Fact(msgspec.Struct, frozen=True, kw_only=True):
    """Data of an event beyond its description."""

    stage: Stage | None = None
    content: Content | None = None
    reason: str | None = None
    pickup_code: str | None = None


class TrackedOrder(msgspec.Struct, kw_only=True):
    """State of one order."""

    order_id: str
    timeline: dict[str, Entry] = {}
    stage: Stage = Stage.PLACED
    content: Content | None = None
    reason: str | None = None
    pickup_code: str | None = None

    @property
    def is_known(self) -> bool:
        # Of an order that was forgotten, a late e-mail or refund may still arrive.
        return self.stage is not Stage.PLACED or self.content is not None

    @property
    def changes(self) -> int:
        # The same on all replicas that have received the same events, unlike a counter.
        return len(self.timeline)

    @property
    def entries(self) -> list[Entry]:
        return sorted(self.timeline.values(), key=lambda entry: (entry.time, entry.id))

    @property
    def updated_at(self) -> datetime:
        return max(entry.time for entry in self.timeline.values())

    def add(self, entry: Entry, fact: Fact) -> bool:
        """Add an event; return whether it was new."""
        if entry.identity in self.timeline:
            return False
        self.timeline[entry.identity] = entry
        self._update(fact)
        return True

    def merge(self, other: Self) -> None:
        """Add everything from another copy of the same order."""
        self.timeline = {**other.timeline, **self.timeline}
        self._update(other)

    def _update(self, other: Fact | Self) -> None:
        self.stage = max(self.stage, other.stage or self.stage, key=lambda stage: stage.rank)
        self.content = max(self.content, other.content, key=lambda content: len(content.lines) if content else -1)
        self.reason = self.reason or other.reason
        self.pickup_code = self.pickup_code or other.pickup_code


class Totals(msgspec.Struct, kw_only=True):
    """Numbers of orders by state, and the revenue."""

    open: int = 0
    done: int = 0
    cancelled: int = 0
    earned_cents: int = 0

    @classmethod
    def of(cls, order: TrackedOrder | None) -> Totals:
        """Return the contribution of one order."""
        if order is None or not order.is_known:
            return cls()
        if order.stage is Stage.CANCELLED:
            return cls(cancelled=1)
        if order.stage is Stage.COMPLETED:
            return cls(done=1, earned_cents=order.content.total_cents if order.content else 0)
        return cls(open=1)

    def add(self, other: Totals) -> None:
        """Add other totals to these."""
        self.open += other.open
        self.done += other.done
        self.cancelled += other.cancelled
        self.earned_cents += other.earned_cents

    def __sub__(self, other: Totals) -> Totals:
        """Return the difference to `other`."""
        return Totals(
            open=self.open - other.open,
            done=self.done - other.done,
            cancelled=self.cancelled - other.cancelled,
            earned_cents=self.earned_cents - other.earned_cents,
        )


class OrderCounts(msgspec.Struct, kw_only=True):
    """Totals of one generation of the read model, or a change of them.

    Attributes:
        own: Of the orders as this generation alone has them.
        visible: The part by which this generation changes what readers see in all generations together.

    """

    own: Totals = msgspec.field(default_factory=Totals)
    visible: Totals = msgspec.field(default_factory=Totals)


class ReadModel(msgspec.Struct, kw_only=True):
    """Generations of the read model: the one shown, and a newer one that is being built.

    During a rebuild, events are written to the new generation and readers see both, so that no order disappears.

    Attributes:
        failed: Why the latest rebuild ended early; empty if it did not.
        others: Older generations that failed rebuilds did not replace.
        written: The generation that events are written to.
        readable: The generations that together form the current state, newest first.

    """

    generation: int = 1
    building: int | None = None
    replay_id: str = ""
    started_at: datetime | None = None
    completed_at: datetime | None = None
    replayed: int | None = None
    failed: str = ""
    others: tuple[int, ...] = ()

    @property
    def written(self) -> int:
        return self.building or self.generation

    @property
    def readable(self) -> list[int]:
        return [*([self.building] if self.building else []), self.generation, *self.others]

    def rebuild(self, replay_id: str, now: datetime) -> None:
        """Start a new generation. One that is still being built stays readable until this one is complete."""
        self._keep_building()
        self.building = self.written + 1
        self.failed = ""
        self.replay_id = replay_id
        self.started_at = now
        self.completed_at = self.replayed = None

    def complete(self, replay_id: str, count: int, now: datetime) -> bool:
        """Make the new generation the only one after its replay; return False for any other replay."""
        if self.building is None or replay_id != self.replay_id:
            return False
        self.generation, self.building, self.others = self.building, None, ()
        self.completed_at, self.replayed = now, count
        return True

    def fail(self, replay_id: str, reason: str, now: datetime) -> bool:
        """End a rebuild whose replay was incomplete; former generations stay readable. Return False otherwise."""
        if self.building is None or replay_id != self.replay_id:
            return False
        self._keep_building()
        self.completed_at, self.failed = now, reason or "the replay ended early"
        return True

    def _keep_building(self) -> None:
        if self.building is not None:
            self.others = (self.generation, *self.others)
            self.generation, self.building = self.building, None


class Latest(msgspec.Struct):
    """The latest orders and their numbers of changes, latest last; shared between replicas."""

    orders: dict[str, int] = {}

    def note(self, changes: dict[str, int], most: int) -> bool:
        """Add changes, and drop the oldest orders beyond `most`; return whether any change was new."""
        new = {key: count for key, count in changes.items() if count > self.orders.get(key, 0)}
        for key, count in new.items():
            self.orders.pop(key, None)
            self.orders[key] = count
        for key in list(self.orders)[: max(len(self.orders) - most, 0)]:
            del self.orders[key]
        return bool(new)


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


def texts(order: TrackedOrder) -> tuple[str, str | None]:
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
