"""Domain rules of the kitchen: tickets, the index of those in work, ingredients, recipes and staff.

Pure: no I/O and no clock; `now` is a parameter.
"""

from __future__ import annotations

import zlib
from collections.abc import Collection, Iterable, Mapping
from datetime import datetime, timedelta
from typing import Annotated, Literal

import msgspec

from tidings.marks import PERSONAL, SUBJECT

Fulfilment = Literal["pickup", "delivery"]
Stage = Literal["waiting", "preparing", "prepared", "baked", "checked"]
Status = Literal["waiting", "preparing", "prepared", "baked", "checked", "boxed", "stopped", "rejected"]
Step = Literal["started", "prepared", "baked", "checked", "boxed"]
Refusal = Literal["kitchenClosed", "itemSoldOut"]

FOLLOWS: Mapping[Status, Step] = {
    "waiting": "started",
    "preparing": "prepared",
    "prepared": "baked",
    "baked": "checked",
    "checked": "boxed",
}
_REACHES: Mapping[Step, Status] = {
    "started": "preparing",
    "prepared": "prepared",
    "baked": "baked",
    "checked": "checked",
    "boxed": "boxed",
}


class WrongStep(Exception):
    """The step is not the next one of the ticket."""


class Line(msgspec.Struct, frozen=True):
    """Quantity of one kind of pizza."""

    sku: str
    quantity: int


class Ticket(msgspec.Struct, kw_only=True):
    """One order in the kitchen.

    Attributes:
        status: The ticket is in work until it is boxed, stopped or rejected.
        refusal: Reason of a rejection.
        sold_out: The skus that caused a rejection.
        checks: Number of quality checks so far.
        moves: Number of steps so far. A planned step is valid for one number of moves only, so that it has no effect
            once another step was done instead.
        correlation_id: Correlation id of the order, for the events of steps reported over HTTP.

    """

    order_id: str
    status: Status
    changed_at: datetime
    confirmed_at: datetime | None = None
    fulfilment: Fulfilment = "pickup"
    lines: list[Line] = []
    refusal: Refusal | None = None
    sold_out: list[str] = []
    checks: int = 0
    moves: int = 0
    correlation_id: str = ""

    @classmethod
    def receive(
        cls,
        order_id: str,
        lines: Iterable[Line],
        fulfilment: Fulfilment,
        *,
        confirmed_at: datetime,
        now: datetime,
        staffed: bool,
        sold_out: Iterable[str],
        correlation_id: str = "",
    ) -> Ticket:
        """Accept a confirmed order, or reject it because nobody is at work or an ingredient has run out."""
        missing = list(sold_out)
        refusal: Refusal | None = "kitchenClosed" if not staffed else "itemSoldOut" if missing else None
        return cls(
            order_id=order_id,
            status="rejected" if refusal else "waiting",
            changed_at=now,
            confirmed_at=confirmed_at,
            fulfilment=fulfilment,
            lines=list(lines),
            refusal=refusal,
            sold_out=missing if refusal == "itemSoldOut" else [],
            correlation_id=correlation_id,
        )

    @classmethod
    def cancelled_unseen(cls, order_id: str, now: datetime) -> Ticket:
        """Create a stopped ticket for a cancellation that arrived before the order."""
        return cls(order_id=order_id, status="stopped", changed_at=now)

    @property
    def in_work(self) -> bool:
        return self.status in FOLLOWS

    @property
    def next_step(self) -> Step | None:
        return FOLLOWS.get(self.status)

    @property
    def pizzas(self) -> int:
        return sum(line.quantity for line in self.lines)

    def do(self, step: Step, now: datetime, *, passed: bool = True) -> None:
        """Carry out the next step.

        Pizzas that fail their quality check are baked again, and after every second failure prepared again.

        Args:
            step: The step, which must be the next one.
            now: Current time.
            passed: Result of a quality check; ignored by other steps.

        Raises:
            WrongStep: Another step is due, or none.

        """
        if step != self.next_step:
            expected = f"the next step is {self.next_step!r}" if self.next_step else "no step is left"
            raise WrongStep(f"order {self.order_id} is {self.status}: {expected}, not {step!r}")
        self.status = _REACHES[step]
        if step == "checked":
            self.checks += 1
            if not passed:
                self.status = "prepared" if self.checks % 2 else "preparing"
        self.moves += 1
        self.changed_at = now

    def stop(self, now: datetime) -> Stage | None:
        """Stop work on a cancelled order; return the stage it had reached, None if it was not in work."""
        if self.status == "boxed" or self.status == "stopped" or self.status == "rejected":  # noqa: PLR1714 - narrows
            return None
        stage: Stage = self.status
        self.status = "stopped"
        self.moves += 1
        self.changed_at = now
        return stage

    def passes(self, failing_checks: Mapping[str, int]) -> bool:
        """Return whether the next quality check passes, given the number of checks that must fail per sku."""
        return self.checks >= max((failing_checks.get(line.sku, 0) for line in self.lines), default=0)


SHARDS = 16


class BoardIndex(msgspec.Struct):
    """One shard of the index of the tickets in work: the orders, with the times of their confirmations.

    A state store is read by key only, so the ids of the tickets in work have to be stored. A single document would be
    written by every order, and most of those writes would conflict.
    """

    orders: dict[str, datetime] = {}

    def add(self, order_id: str, since: datetime) -> None:
        """Add an order. Idempotent."""
        self.orders[order_id] = since

    def remove(self, order_id: str) -> None:
        """Remove an order, if present."""
        self.orders.pop(order_id, None)


def shard_key(order_id: str) -> str:
    """Return the state key of the shard that an order belongs to; the same for every replica and release."""
    return f"{zlib.crc32(order_id.encode()) % SHARDS:02}"


def shard_keys() -> list[str]:
    """Return the state keys of all shards."""
    return [f"{number:02}" for number in range(SHARDS)]


_TICK = timedelta(microseconds=1)


class Supply(msgspec.Struct, frozen=True):
    """Availability of an ingredient since a time."""

    available: bool
    since: datetime


class Pantry(msgspec.Struct):
    """Ingredients that have ever run out; all others are available."""

    supplies: dict[str, Supply] = {}

    def ran_out(self, ingredient: str, now: datetime) -> datetime | None:
        """Record that an ingredient has run out; return the time of the change, None if it was known."""
        return self._change(ingredient, now, available=False)

    def delivered(self, ingredient: str, now: datetime) -> datetime | None:
        """Record a delivery; return the time of the change, None if the ingredient was available."""
        return self._change(ingredient, now, available=True)

    @property
    def missing(self) -> set[str]:
        return {name for name, supply in self.supplies.items() if not supply.available}

    def _change(self, ingredient: str, now: datetime, *, available: bool) -> datetime | None:
        before = self.supplies.get(ingredient)
        if available == (before is None or before.available):
            return None
        # Consumers order the changes of an ingredient by their times, so each must be later than the one before,
        # even if the clock was set back.
        since = now if before is None else max(now, before.since + _TICK)
        self.supplies[ingredient] = Supply(available, since)
        return since


class Recipe(msgspec.Struct, frozen=True):
    """Ingredients of a pizza, with the time of publication."""

    ingredients: frozenset[str]
    published_at: datetime


class Cookbook(msgspec.Struct):
    """The newest recipe of each sku."""

    recipes: dict[str, Recipe] = {}

    def add(self, sku: str, ingredients: Iterable[str], published_at: datetime) -> bool:
        """Store a recipe; return False if a newer one is known."""
        known = self.recipes.get(sku)
        if known is not None and known.published_at >= published_at:
            return False
        self.recipes[sku] = Recipe(frozenset(ingredients), published_at)
        return True

    def needing(self, missing: Collection[str]) -> list[str]:
        """Return the skus that need one of these ingredients. Skus without a known recipe are left out."""
        return sorted(sku for sku, recipe in self.recipes.items() if not recipe.ingredients.isdisjoint(missing))


Role = Literal["cook", "manager"]


class NotClockedIn(Exception):
    """The member of staff is not clocked in."""


class Arrival(msgspec.Struct, frozen=True):
    """A member of staff who clocks in."""

    member_id: str
    name: str
    role: Role


class Member(msgspec.Struct, frozen=True):
    """A member of staff at work."""

    member_id: Annotated[str, SUBJECT]
    name: Annotated[str, PERSONAL]
    role: Role
    since: datetime


class Roster(msgspec.Struct):
    """Staff clocked in. The kitchen accepts orders while anybody is, whatever their roles."""

    members: dict[str, Member] = {}

    @classmethod
    def of(cls, crew: Iterable[Arrival], now: datetime) -> Roster:
        """Create a roster with the opening crew."""
        return cls({arrival.member_id: _member(arrival, now) for arrival in crew})

    @property
    def staffed(self) -> bool:
        return bool(self.members)

    def clock_in(self, arrival: Arrival, now: datetime) -> bool:
        """Add a member; return False if already clocked in."""
        if arrival.member_id in self.members:
            return False
        self.members[arrival.member_id] = _member(arrival, now)
        return True

    def clock_out(self, member_id: str) -> None:
        """Remove a member.

        Raises:
            NotClockedIn: The member is not clocked in.

        """
        if self.members.pop(member_id, None) is None:
            raise NotClockedIn(f"{member_id} is not clocked in")


def _member(arrival: Arrival, now: datetime) -> Member:
    return Member(arrival.member_id, arrival.name, arrival.role, now)
