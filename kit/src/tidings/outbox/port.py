"""What every way of publishing offers."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from datetime import datetime
from typing import Any, Protocol

from tidings.messages.delivery import DeliveryContext
from tidings.outbox.documents import Scheduled

Deliver = Callable[[Scheduled], Awaitable[None]]
"""Handles a scheduled message that is due; it raises nothing and returns when the message is finished."""


class Outbox(Protocol):
    """A strategy: what a handler wrote and what it published happen together, as far as the strategy promises."""

    async def start(self, deliver: Deliver) -> None:
        """Begin to deliver; returns once units of work can be committed."""

    async def stop(self, grace_period: float) -> None:
        """Deliver what is under way, for up to `grace_period` seconds, and let go."""

    def unit(self, delivery: DeliveryContext, now: datetime) -> AbstractAsyncContextManager[Any]:
        """Open a unit of work: a `Context` with an async `commit()`."""

    @property
    def depth(self) -> int:
        """How many units of work have messages that are not delivered yet."""
