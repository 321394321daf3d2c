"""What is known of an order's way: facts merged in whatever order and however often they arrive.

Everything kept only grows: facts are a set, the stage is the furthest one, the rest is told once. So two replicas,
a replay and a live event, an old and a new generation of the model always come to the same.
"""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum
from typing import Self

import msgspec


class Stage(StrEnum):
    """How far an order is, in the order in which an order gets there. Pickup and delivery take different ways."""

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
        return _WAY.index(self)

    @property
    def finished(self) -> bool:
        return self in (Stage.COMPLETED, Stage.CANCELLED)


_WAY = list(Stage)


class Line(msgspec.Struct, frozen=True, rename="camel"):
    """Quantity of one kind of pizza."""

    sku: str
    name: str
    quantity: int
    unit_price_cents: int


class Entry(msgspec.Struct, frozen=True, kw_only=True):
    """One fact of the timeline, in words for people."""

    id: str
    type: str
    version: int
    time: datetime
    source: str
    words: str

    @property
    def identity(self) -> str:
        return f"{self.source} {self.id}"


class Content(msgspec.Struct, frozen=True, kw_only=True):
    """What was ordered."""

    fulfilment: str
    total_cents: int
    lines: tuple[Line, ...]


class Fact(msgspec.Struct, frozen=True, kw_only=True):
    """What a timeline entry says beyond its words: how far the order is, what it holds, why it ended, its code."""

    stage: Stage | None = None
    content: Content | None = None
    reason: str | None = None
    pickup_code: str | None = None


class TrackedOrder(msgspec.Struct, kw_only=True):
    """All that is known of one order."""

    order_id: str
    timeline: dict[str, Entry] = {}
    stage: Stage = Stage.PLACED
    content: Content | None = None
    reason: str | None = None
    pickup_code: str | None = None

    @property
    def changes(self) -> int:
        return len(self.timeline)

    @property
    def entries(self) -> list[Entry]:
        return sorted(self.timeline.values(), key=lambda entry: (entry.time, entry.id))

    @property
    def updated_at(self) -> datetime:
        return max(entry.time for entry in self.timeline.values())

    def add(self, entry: Entry, fact: Fact) -> bool:
        """Learn a fact; whether it was new."""
        if entry.identity in self.timeline:
            return False
        self.timeline[entry.identity] = entry
        self._learn(fact)
        return True

    def merge(self, other: Self) -> None:
        """Learn all that another copy of the same order knows."""
        self.timeline = {**other.timeline, **self.timeline}
        self._learn(other)

    def _learn(self, told: Fact | Self) -> None:
        self.stage = max(self.stage, told.stage or self.stage, key=lambda each: each.rank)
        self.content = self.content or told.content
        self.reason = self.reason or told.reason
        self.pickup_code = self.pickup_code or told.pickup_code


class Totals(msgspec.Struct, kw_only=True):
    """How many orders there are, and what the finished ones earned."""

    open: int = 0
    done: int = 0
    cancelled: int = 0
    earned_cents: int = 0

    @classmethod
    def of(cls, order: TrackedOrder | None) -> Totals:
        """What one order counts for."""
        if order is None or not order.timeline:
            return cls()
        if order.stage is Stage.CANCELLED:
            return cls(cancelled=1)
        if order.stage is Stage.COMPLETED:
            return cls(done=1, earned_cents=order.content.total_cents if order.content else 0)
        return cls(open=1)

    def add(self, other: Totals) -> None:
        """Count others in."""
        self.open += other.open
        self.done += other.done
        self.cancelled += other.cancelled
        self.earned_cents += other.earned_cents

    def __sub__(self, other: Totals) -> Totals:
        """What must be added to `other` to get this."""
        return Totals(
            open=self.open - other.open,
            done=self.done - other.done,
            cancelled=self.cancelled - other.cancelled,
            earned_cents=self.earned_cents - other.earned_cents,
        )


class ReadModel(msgspec.Struct, kw_only=True):
    """Which generation of the model is read, and whether a newer one is being built.

    While one is being built, events go into it and readers see both: nobody's order vanishes meanwhile.
    """

    generation: int = 1
    building: int | None = None
    replay_id: str = ""
    started_at: datetime | None = None
    completed_at: datetime | None = None
    replayed: int | None = None
    failed: str = ""
    """Why the latest rebuild ended before it was complete; empty: it did not."""
    others: tuple[int, ...] = ()
    """Older generations that rebuilds which have failed did not replace."""

    @property
    def written(self) -> int:
        return self.building or self.generation

    @property
    def readable(self) -> list[int]:
        return [*([self.building] if self.building else []), self.generation, *self.others]

    def rebuild(self, replay_id: str, now: datetime) -> None:
        """Begin a new generation; one that is being built already stays readable until this one is complete."""
        self._keep_building()
        self.building = self.written + 1
        self.failed = ""
        self.replay_id = replay_id
        self.started_at = now
        self.completed_at = self.replayed = None

    def complete(self, replay_id: str, count: int, now: datetime) -> bool:
        """Let the new generation stand alone once its replay is over; whether that was the one waited for."""
        if self.building is None or replay_id != self.replay_id:
            return False
        self.generation, self.building, self.others = self.building, None, ()
        self.completed_at, self.replayed = now, count
        return True

    def fail(self, replay_id: str, reason: str, now: datetime) -> bool:
        """End a rebuild whose replay was not carried out whole; what was there before stays readable beside it."""
        if self.building is None or replay_id != self.replay_id:
            return False
        self._keep_building()
        self.completed_at, self.failed = now, reason or "the replay did not come to its end"
        return True

    def _keep_building(self) -> None:
        if self.building is not None:
            self.others = (self.generation, *self.others)
            self.generation, self.building = self.building, None


class Latest(msgspec.Struct):
    """Which orders changed last, the latest last, and how many changes of each there are: what replicas share."""

    orders: dict[str, int] = {}

    def note(self, changes: dict[str, int], most: int) -> bool:
        """Add what changed, and forget the oldest beyond `most`; whether anything is new."""
        news = {key: count for key, count in changes.items() if count > self.orders.get(key, 0)}
        for key, count in news.items():
            self.orders.pop(key, None)
            self.orders[key] = count
        for key in list(self.orders)[: max(len(self.orders) - most, 0)]:
            del self.orders[key]
        return bool(news)
