"""Interface of the outbox strategies."""

from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from datetime import datetime
from typing import Any, ClassVar, Protocol

from tidings.messages.delivery import DeliveryContext
from tidings.outbox.documents import Scheduled

LEASE = 15.0  # seconds without a renewal after which another instance adopts a lane
TRIES = 20  # attempts for a rejected event, over about twelve minutes, before it is parked

Deliver = Callable[[Scheduled], Awaitable[None]]
"""Handles a due scheduled message; returns when the message has its outcome and raises nothing."""


class Outbox(Protocol):
    """A strategy that commits writes and messages together, with the guarantees that its module describes.

    `uses_state` is True if it needs the sidecar's state store.
    """

    uses_state: ClassVar[bool]

    async def start(self, deliver: Deliver) -> None:
        """Start delivering; return once units of work can be committed."""

    async def stop(self, grace_period: float) -> None:
        """Deliver messages in flight within `grace_period` seconds, and release all resources."""

    def unit(self, delivery: DeliveryContext, now: datetime) -> AbstractAsyncContextManager[Any]:
        """Open a unit of work: a `Context` with an async `commit()`."""

    @property
    def depth(self) -> int:
        """Number of units of work with undelivered messages."""
