"""The ticket of an order, as a state machine."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Literal

import msgspec

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
