"""Scheduled messages on clocks that are set back or ahead by days, in virtual time, on each strategy that has them."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import aiosqlite
import pytest
from tests.conformance.processes import Process, owned
from tests.conformance.worlds import World
from tests.unit.test_outbox_model import EPOCH, LogModel, TableModel, VirtualLoop

from tidings import Context, Event, Handlers, StateContext, command, event
from tidings.errors import PublishRefused

DAYS = 3 * 86_400.0
WAIT = 120.0


@command("shop.ringBell")
class Ring(Event):
    name: str


@event("shop.bellRung")
class Rung(Event):
    name: str


class Shelf(Event):
    count: int = 0


class Bell:
    """A service that rings when it is asked to, on a machine whose wall clock a test sets."""

    def __init__(self, strategy: str, folder: Path) -> None:
        self.loop = VirtualLoop()
        self.loop.set_task_factory(owned)
        self.error = 0.0  # seconds that the wall clock is wrong
        url = f"sqlite:///{folder / 'shop.db'}"
        world = LogModel(self.wall, atomic=True) if strategy == "log" else TableModel(self.wall, url)
        self.world: World = world
        self.rung: dict[str, float] = {}
        world.handlers = Handlers()
        world.handlers.on(Ring)(self.ring)

    def wall(self) -> float:
        return EPOCH + self.loop.time() + self.error

    async def ring(self, message: Ring, _context: Context) -> None:
        self.rung[message.name] = self.loop.time()

    async def ask(self, process: Process, name: str, wait: float = WAIT) -> float:
        """Schedule a ring; return its time."""

        async def schedule(_message: None, context: Any) -> None:
            context.schedule(Ring(name=name), after=timedelta(seconds=wait))

        await process.service.execute(schedule, None)
        return self.loop.time()

    def rang_after(self, name: str, asked: float) -> float:
        return self.rung[name] - asked

    async def until(self, holds: Callable[[], object], patience: float = 300) -> None:
        """Wait for a condition, in virtual time."""
        async with asyncio.timeout(patience):
            while not holds():  # noqa: ASYNC110 - there is no event for it
                await asyncio.sleep(1)

    def run(self, work: Callable[[], Awaitable[None]]) -> None:
        self.loop.run_until_complete(work())


@pytest.fixture(params=["log", "table"])
def bell(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Bell]:
    made = Bell(request.param, tmp_path)
    monkeypatch.setattr(aiosqlite.core, "SimpleQueue", made.loop.queue)
    yield made
    made.loop.close()


@pytest.mark.parametrize("jump", [-DAYS, DAYS], ids=["back", "ahead"])
def test_a_clock_that_is_set_while_a_service_runs_changes_no_wait(bell: Bell, jump: float) -> None:
    async def work() -> None:
        async with bell.world.process() as process:
            before = await bell.ask(process, "before")
            await asyncio.sleep(60)
            bell.error = jump
            after = await bell.ask(process, "after")
            await asyncio.sleep(2 * WAIT)
            assert bell.rang_after("before", before) == pytest.approx(WAIT, abs=6)
            assert bell.rang_after("after", after) == pytest.approx(WAIT, abs=6)

    bell.run(work)


def test_after_a_restart_with_a_clock_set_back_nothing_waits_longer_than_at_first(bell: Bell) -> None:
    async def work() -> None:
        async with bell.world.process() as process:
            await bell.ask(process, "bell")
        bell.error = -DAYS
        began = bell.loop.time()
        async with bell.world.process():
            await asyncio.sleep(2 * WAIT)
            assert bell.rang_after("bell", began) <= WAIT + 6

    bell.run(work)


def test_another_replica_with_a_clock_set_back_adopts_what_a_dead_one_left(bell: Bell) -> None:
    async def work() -> None:
        async with bell.world.process("shop-0") as process:
            await bell.ask(process, "bell")
        bell.error = -DAYS
        began = bell.loop.time()
        async with bell.world.process("shop-1"):
            await asyncio.sleep(2 * WAIT)
            assert bell.rang_after("bell", began) <= WAIT + 60

    bell.run(work)


def test_a_clock_that_was_wrong_and_is_set_right_changes_no_wait(bell: Bell) -> None:
    async def work() -> None:
        bell.error = DAYS
        async with bell.world.process() as process:
            asked = await bell.ask(process, "bell")
            bell.error = 0.0
            await asyncio.sleep(2 * WAIT)
            assert bell.rang_after("bell", asked) == pytest.approx(WAIT, abs=6)

    bell.run(work)


def test_messages_due_while_no_instance_runs_are_handled_at_the_next_start(bell: Bell) -> None:
    async def work() -> None:
        async with bell.world.process() as process:
            await bell.ask(process, "bell")
        await asyncio.sleep(WAIT)
        began = bell.loop.time()
        async with bell.world.process():
            await asyncio.sleep(WAIT)
            assert bell.rang_after("bell", began) < 6

    bell.run(work)


@pytest.mark.parametrize("jump", [-DAYS, DAYS], ids=["back", "ahead"])
@pytest.mark.parametrize("instance", ["shop-0", "shop-1"])
def test_a_rejected_event_is_retried_regardless_of_the_clock(bell: Bell, jump: float, instance: str) -> None:
    """Also by another replica, which adopts it."""

    async def publish(_message: None, context: Context) -> None:
        if isinstance(context, StateContext):
            await context.load(Shelf, "a")
            context.save("a", Shelf())
        context.publish(Rung(name="a"))

    def published() -> object:
        return bell.world.broker.events("shop.bellRung.v1")

    async def work() -> None:
        async with bell.world.process() as process:
            sidecar: Any = process.service.sidecar  # a MemorySidecar
            sidecar.fail("publish", times=8, error=PublishRefused("not yet"))
            sidecar.fail("publish_many", times=8, error=PublishRefused("not yet"))
            await process.service.execute(publish, None)
            await asyncio.sleep(4)
            bell.error = jump
            if instance == "shop-0":
                await bell.until(published)
        async with bell.world.process(instance):
            await bell.until(published)

    bell.run(work)
