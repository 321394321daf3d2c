"""A ticket: one order's way through the kitchen."""

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
    """The ticket is not where this step could be done."""


class Line(msgspec.Struct, frozen=True):
    """So many pizzas of one kind."""

    sku: str
    quantity: int


class Ticket(msgspec.Struct, kw_only=True):
    """One order, as far as the kitchen is concerned.

    Attributes:
        status: Where it is; it is in work until it is boxed, stopped or rejected.
        refusal: Why it was rejected.
        sold_out: The skus that it was rejected for.
        checks: How many quality checks there have been.
        moves: How many steps have been done: whoever plans the next one says after which it is meant to come.
        correlation_id: What all events of the order share, for steps that a person does.

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
        """Take a confirmed order, or reject it: nobody is there to make it, or something it needs has run out."""
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
        """Remember a cancellation that came before the order: it will not be made."""
        return cls(order_id=order_id, status="stopped", changed_at=now)

    @property
    def in_work(self) -> bool:
        """Whether there is still something to do."""
        return self.status in FOLLOWS

    @property
    def next_step(self) -> Step | None:
        """What comes next; None where the ticket is finished."""
        return FOLLOWS.get(self.status)

    @property
    def pizzas(self) -> int:
        """How many pizzas; each has a box of its own."""
        return sum(line.quantity for line in self.lines)

    def do(self, step: Step, now: datetime, *, passed: bool = True) -> None:
        """Carry out the next step.

        A pizza that fails its quality check is baked again; the second time it is made anew, and so on.

        Args:
            step: It must be the one that comes next.
            now: The moment.
            passed: The result of a quality check; other steps do not look at it.

        Raises:
            WrongStep: Another step comes next, or none.

        """
        if step != self.next_step:
            following = f"comes {self.next_step!r}" if self.next_step else "comes nothing any more"
            raise WrongStep(f"order {self.order_id} is {self.status}: next {following}, not {step!r}")
        self.status = _REACHES[step]
        if step == "checked":
            self.checks += 1
            if not passed:
                self.status = "prepared" if self.checks % 2 else "preparing"
        self.moves += 1
        self.changed_at = now

    def stop(self, now: datetime) -> Stage | None:
        """Stop the work because the order was cancelled; how far it had got, None where there was no more to stop."""
        if self.status == "boxed" or self.status == "stopped" or self.status == "rejected":  # noqa: PLR1714 - narrows
            return None
        stage: Stage = self.status
        self.status = "stopped"
        self.moves += 1
        self.changed_at = now
        return stage

    def passes(self, failing_checks: Mapping[str, int]) -> bool:
        """Whether the next quality check passes, where `failing_checks` says how many must fail for a sku."""
        return self.checks >= max((failing_checks.get(line.sku, 0) for line in self.lines), default=0)
