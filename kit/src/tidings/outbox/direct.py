"""The direct strategy: no outbox. The commit is the broker's acknowledgement.

For facts that may be published again: if publishing fails, the caller or broker that requested them must retry. Nothing
is stored, so no state store is needed; the context has only `publish`. Each call has a timeout and is retried with
exponential back-off and jitter. After several consecutive failures a circuit breaker opens, and callers immediately
receive `PublishingPaused` with a retry delay: an API responds with 503 and `Retry-After`.

Guarantees on failure:

- Before the commit: nothing was sent.
- Between commit and publish: there is no such state. If the process dies here, the request has no response: the broker
  redelivers the event; the caller sees a broken connection and must retry, or the fact is **lost**.
- Between publish and acknowledgement: the fact may have been published. It is published again with the same id within
  the unit of work and if an event caused it; after a request, only if the caller of `publish` specifies the id.
- Of several facts in one unit of work, the first may be published and the second not, until the retry.
- Broker or sidecar down: nothing is accepted. Events are redelivered, callers receive the error.
- State store down: no effect, unless the handler uses one itself, outside of this unit of work.

Order: sequential calls are published in order; concurrent ones in any order.
"""

from __future__ import annotations

import asyncio
import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime
from typing import ClassVar

import stamina

from tidings.breaker import Breaker
from tidings.context import Context, Outgoing
from tidings.dapr import Sidecar
from tidings.errors import SidecarUnavailable
from tidings.messages.delivery import DeliveryContext
from tidings.observability import metrics
from tidings.outbox.port import Deliver
from tidings.settings import Settings

_SPACE = uuid.UUID("6f2c3d52-7a53-5f0e-9f0b-5a3a3e0d1c11")  # namespace of ids derived from the event being handled


class PublishingPaused(SidecarUnavailable):
    """Nothing was sent: publishing has failed repeatedly and is not retried for `after` seconds."""

    def __init__(self, reason: str, after: float) -> None:
        super().__init__(f"publishing is paused, retry in {after:.0f} s: {reason}")
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

    uses_state: ClassVar[bool] = False

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
        """Create the outbox from a service's settings; pass this method as `Service(outbox=…)`."""
        return cls(sidecar, settings.tidings_max_event, deadline=settings.tidings_deadline)

    async def start(self, deliver: Deliver) -> None:
        """Do nothing: there are no messages from earlier runs."""

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
        """Publish messages sequentially.

        Raises:
            PublishingPaused: The circuit breaker is open.
            SidecarUnavailable: All attempts failed; the event may have been published.
            PublishRefused: The event can never be published.

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
                await self._attempt(message)

    async def _attempt(self, message: Outgoing) -> None:
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
        """Publish one fact on commit; if the event is redelivered, the fact has the same id as before.

        The errors are those of `Context.publish`.
        """
        self._facts += 1
        if not event_id and self.delivery.key is not None:
            event_id = str(uuid.uuid5(_SPACE, f"{self.delivery.source}/{self.delivery.key}/{self._facts}"))
        return Context.publish(self, *representations, event_id=event_id)

    async def commit(self) -> None:
        """Publish; return once the broker has acknowledged everything.

        The errors are those of `DirectOutbox.publish`.
        """
        await self._outbox.publish(self.outgoing)
