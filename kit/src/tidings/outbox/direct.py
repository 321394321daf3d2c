"""The direct strategy: no outbox at all. The commit is the broker's acknowledgement.

For facts that may be told again: whoever asked for them, a caller or a broker, asks again where publishing failed.
Nothing is stored, so it needs no state store; a context has `publish` and nothing else. Each call has a deadline and
is tried again with growing pauses and jitter; after some failures in a row a circuit breaker opens, and callers are
told at once, with `PublishingPaused`, when to come back: an API answers 503 with `Retry-After`.

What holds when something fails:

- Before the commit: nothing was sent.
- Between commit and publish: there is nothing between them. Whoever dies here has answered nobody: the event is
  brought again by the broker, the caller sees a broken connection and must ask again, or the fact is **lost**.
- Between publish and acknowledgement: the fact may be out. It is published again, with the same id within the unit of
  work and wherever an event caused it; after a request with the same id only where the caller of `publish` names it.
- Of several facts in one unit of work the first may be told and the second not, until it is asked for again.
- Broker or sidecar down: nothing is accepted. Events are brought again, callers get the error.
- State store down: no difference, unless the handler itself uses one. Nothing of that is in this unit of work.

Order: one after the other as they are asked for; what is asked for at the same time is told in any order.
"""

from __future__ import annotations

import asyncio
import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime

import stamina

from tidings.breaker import Breaker
from tidings.context import Context, Outgoing
from tidings.dapr import Sidecar
from tidings.errors import SidecarUnavailable
from tidings.messages.delivery import DeliveryContext
from tidings.observability import metrics
from tidings.outbox.port import Deliver
from tidings.settings import Settings

_SPACE = uuid.UUID("6f2c3d52-7a53-5f0e-9f0b-5a3a3e0d1c11")  # of the ids that are made from a cause


class PublishingPaused(SidecarUnavailable):
    """Nothing was sent: publishing has failed again and again, and is not tried before `after` seconds are over."""

    def __init__(self, reason: str, after: float) -> None:
        super().__init__(f"publishing is paused, try again in {after:.0f} s: {reason}")
        self.after = after


class DirectOutbox:
    """Publishes immediately, or raises an error.

        service = Service("thermometer", handlers, outbox=DirectOutbox.from_settings)

    Args:
        sidecar: Publishes the events.
        max_event: Maximum size of a published event in bytes.
        deadline: Timeout of a call in seconds.
        attempts: Maximum attempts per event.
        failures: Number of consecutive failed calls that open the circuit breaker.
        pause: Seconds until a probe call decides whether it closes.
        clock: Monotonic clock in seconds.

    """

    def __init__(
        self,
        sidecar: Sidecar,
        max_event: int = 1_000_000,
        *,
        deadline: float = 2.0,
        attempts: int = 3,
        failures: int = 5,
        pause: float = 5.0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.breaker = Breaker(failures, pause, SidecarUnavailable, PublishingPaused, clock=clock)
        self._sidecar = sidecar
        self._max_event = max_event
        self._deadline = deadline
        self._attempts = attempts
        self._under_way = 0
        self._idle = asyncio.Event()
        self._idle.set()

    @classmethod
    def from_settings(cls, sidecar: Sidecar, settings: Settings) -> DirectOutbox:
        """Say to a `Service` that it publishes at once."""
        return cls(sidecar, settings.tidings_max_event, deadline=settings.tidings_deadline)

    async def start(self, deliver: Deliver) -> None:
        """Nothing is left from before."""

    async def stop(self, grace_period: float) -> None:
        """Wait up to `grace_period` seconds for calls in flight; the remaining callers get no response."""
        try:
            async with asyncio.timeout(grace_period):
                await self._idle.wait()
        except TimeoutError:
            return

    @property
    def depth(self) -> int:
        """Number of units of work being published."""
        return self._under_way

    def unit(self, delivery: DeliveryContext, now: datetime) -> DirectContext:
        """Open a unit of work."""
        return DirectContext(delivery, now, self._max_event, self)

    async def publish(self, messages: list[Outgoing]) -> None:
        """Publish one after the other.

        Raises:
            PublishingPaused: The circuit breaker is open.
            SidecarUnavailable: It was tried as often as it may be; whether it is out is not known.
            PublishRefused: It will never be published.

        """
        self._under_way += 1
        self._idle.clear()
        try:
            for message in messages:
                await self._insist(message)
        finally:
            self._under_way -= 1
            if not self._under_way:
                self._idle.set()

    async def _insist(self, message: Outgoing) -> None:
        tries = stamina.retry_context(
            on=_may_pass, attempts=self._attempts, timeout=None, wait_initial=0.05, wait_max=1.0, wait_jitter=0.2
        )
        async for attempt in tries:
            with attempt:
                await self._once(message)

    async def _once(self, message: Outgoing) -> None:
        with self.breaker():
            try:
                async with asyncio.timeout(self._deadline):
                    await self._sidecar.publish(message.topic, bytes(message.event))
            except TimeoutError as error:
                metrics.published(message.topic, "unavailable")
                raise SidecarUnavailable(f"{message.topic}: no answer within {self._deadline} s") from error
            except SidecarUnavailable:
                metrics.published(message.topic, "unavailable")
                raise
        metrics.published(message.topic, "ok")


def _may_pass(error: Exception) -> bool:
    return isinstance(error, SidecarUnavailable) and not isinstance(error, PublishingPaused)


@dataclass(slots=True)
class DirectContext(Context):
    """A unit of work that only publishes."""

    _outbox: DirectOutbox
    _facts: int = field(default=0, init=False)

    def publish(self, *representations: object, event_id: str = "") -> str:
        """Publish one fact at the commit; of an event that comes again, each fact has the id it had before.

        The errors are those of `Context.publish`.
        """
        self._facts += 1
        if not event_id and self.delivery.key is not None:
            event_id = str(uuid.uuid5(_SPACE, f"{self.delivery.source}/{self.delivery.key}/{self._facts}"))
        return Context.publish(self, *representations, event_id=event_id)

    async def commit(self) -> None:
        """Publish; returns once the broker has acknowledged everything.

        The errors are those of `DirectOutbox.publish`.
        """
        await self._outbox.publish(self.outgoing)
