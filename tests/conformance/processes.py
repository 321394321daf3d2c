"""Processes in one event loop that die, or whose calls fail, before or after any step."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

import pytest
import structlog
from sqlalchemy.ext.asyncio import AsyncConnection
from tests.conformance.shop import PATH
from tests.conformance.support import poll

from tidings import Service
from tidings.dapr import Item, Operation, Sidecar
from tidings.errors import SidecarError, SidecarUnavailable
from tidings.messages.envelope import Envelope
from tidings.outbox import sql
from tidings.testing.faults import Crash, Faults


class Failing(Faults):
    """A real sidecar whose calls fail as a test asks."""

    def __init__(self, inner: Sidecar) -> None:
        super().__init__()
        self.inner = inner

    async def publish(self, topic: str, data: bytes, *, metadata: Mapping[str, str] | None = None) -> None:
        """Publish."""
        with self.around("publish"):
            await self.inner.publish(topic, data, metadata=metadata)

    async def publish_many(self, topic: str, events: Sequence[bytes]) -> list[SidecarError | None]:
        """Publish several: one call, which fails as a whole."""
        try:
            with self.around("publish"):
                return await self.inner.publish_many(topic, events)
        except SidecarError as error:
            return [error] * len(events)

    async def get_secret(self, store: str, name: str) -> dict[str, str]:
        """Read a secret."""
        with self.around("get_secret"):
            return await self.inner.get_secret(store, name)

    async def get(self, key: str) -> Item | None:
        """Read."""
        with self.around("get"):
            return await self.inner.get(key)

    async def get_many(self, keys: Sequence[str]) -> dict[str, Item]:
        """Read several."""
        with self.around("get_many"):
            return await self.inner.get_many(keys)

    async def transact(self, operations: Any) -> None:
        """Write."""
        expected: list[Operation] = list(operations)
        with self.around("transact"):
            await self.inner.transact(expected)

    async def ready(self, *, state: bool = True) -> bool:
        """Return True if the sidecar answers."""
        return not self.down and await self.inner.ready(state=state)

    async def close(self) -> None:
        """Close the connection."""
        await self.inner.close()


class Process:
    """One run of the app: every task it starts is known, and every step it takes is counted."""

    current: ContextVar[Process | None] = ContextVar("process", default=None)

    def __init__(self) -> None:
        self.steps = 0
        self.dead = False
        self.tasks: set[asyncio.Future[Any]] = set()
        self._last: int | None = None
        self._failing: tuple[int, Exception] | None = None
        self._cancelling: int | None = None
        self._deliveries: list[asyncio.Future[bytes]] = []
        self.service: Service
        self.sidecar: Faults

    def dies_after(self, steps: int) -> None:
        """Let it die before (odd) or after (even) a step that is so many half steps away."""
        self._last = self.steps + steps

    def fails_after(self, steps: int) -> None:
        """Let a step fail once, before or after its effect, as if sidecar or database were away."""
        self._failing = (self.steps + steps, SidecarUnavailable("as the test asked"))

    def cancels_after(self, steps: int) -> None:
        """Cancel a delivery once before or after a step that is so many half steps away, as a time-out would."""
        self._cancelling = self.steps + steps

    def heals(self) -> None:
        """Take back what was to go wrong."""
        self._last = self._failing = self._cancelling = None
        self.sidecar.heal()

    def step(self) -> None:
        """Count half a step, from the inside."""
        if self._last is not None and self.steps >= self._last:
            self.dead = True
        if self.dead:
            raise Crash
        self.steps += 1
        if self._cancelling is not None and self.steps > self._cancelling and self._deliveries:
            self._cancelling = None
            self._deliveries[0].cancel()
        if self._failing is not None and self.steps > self._failing[0]:
            error, self._failing = self._failing[1], None
            raise error

    @contextmanager
    def inside(self) -> Iterator[None]:
        """Associate everything started in this context with this process."""
        token = self.current.set(self)
        try:
            yield
        finally:
            self.current.reset(token)

    async def deliver(self, envelope: Envelope) -> bool:
        """Do what a sidecar does; whether the event was acknowledged."""
        with self.inside():
            delivery = asyncio.ensure_future(self.service.ingress.deliver(PATH, envelope.encode()))
        self._deliveries.append(delivery)
        try:
            return await delivery == b'{"status":"SUCCESS"}'
        except Crash:
            return False
        except asyncio.CancelledError:
            if (task := asyncio.current_task()) and task.cancelling():
                raise
            return False
        finally:
            self._deliveries.remove(delivery)

    async def kill(self) -> None:
        """Cancel all tasks of the process where they are."""
        self.dead = True
        tasks = {task for task in self.tasks if not task.done()}
        for task in tasks:
            if not _closes_connection(task):
                task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def finished(self, task: asyncio.Future[Any]) -> None:
        """Remove a finished task.

        After a death nobody asks how it ended. asyncio would report that while it collects the task, with a traceback
        that Python 3.11 reads with `ast`: inside of another use of `ast`, that one ends with a SystemError (gh-106905).
        """
        self.tasks.discard(task)
        if self.dead and not task.cancelled():
            task.exception()

    async def published_all(self) -> None:
        """Wait until everything is published."""
        await poll(lambda: self.dead or self.service.outbox.depth == 0)


def _closes_connection(task: asyncio.Future[Any]) -> bool:
    """Return True for the task in which SQLAlchemy returns a connection to its pool.

    Cancelled before its first step, it would leave a transaction with its locks open, which the kernel would not.
    """
    return isinstance(task, asyncio.Task) and getattr(task.get_coro(), "__qualname__", "") == "AsyncConnection.close"


def owned(loop: asyncio.AbstractEventLoop, work: Any, **how: Any) -> asyncio.Future[Any]:
    """Make a task, known to the process that begins it: a task factory."""
    task: asyncio.Task[Any] = asyncio.Task(work, loop=loop, **how)
    process = Process.current.get()
    if process is not None:
        process.tasks.add(task)
        task.add_done_callback(process.finished)
    return task


@contextmanager
def counting_steps(patch: pytest.MonkeyPatch) -> Iterator[None]:
    """Let every call of a sidecar and every statement and commit be a step of the process that makes it."""

    def stepping(call: Callable[..., Awaitable[Any]]) -> Callable[..., Awaitable[Any]]:
        async def step(*provided: Any, **named: Any) -> Any:
            process = Process.current.get()
            if process is None:
                return await call(*provided, **named)
            process.step()
            answer = await call(*provided, **named)
            process.step()
            return answer

        return step

    around = Faults.around

    @contextmanager
    def stepping_around(faults: Faults, call: Any) -> Iterator[None]:
        process = Process.current.get()
        with around(faults, call):
            if process is not None:
                process.step()
            yield
            if process is not None:
                process.step()

    patch.setattr(Faults, "around", stepping_around)
    for name in ("execute", "commit"):
        patch.setattr(AsyncConnection, name, stepping(getattr(AsyncConnection, name)))
    patch.setattr(sql, "through_driver", stepping(sql.through_driver))
    with structlog.testing.capture_logs():  # of every death a traceback would be written
        yield
