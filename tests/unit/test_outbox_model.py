"""A model of the outbox and the inbox: two replicas that Hypothesis crashes between any two steps, on a virtual clock.

After every rule, a cause has one effect with one id, however often it is delivered, and the effects of an item are
published in the order of their commits. In the end, once everything works again, no effect is missing, stored and
published effects agree, and the outbox is empty.
"""

from __future__ import annotations

import asyncio
import gc
import selectors
import shutil
import tempfile
from collections.abc import Awaitable, Callable, Iterable
from contextlib import AsyncExitStack, ExitStack
from datetime import UTC, datetime
from pathlib import Path
from queue import SimpleQueue
from typing import Any, ClassVar, TypeVar

import aiosqlite.core
import hypothesis.strategies as st
import msgspec
import pytest
import sqlalchemy as sa
from hypothesis import HealthCheck, Phase, settings
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule, run_state_machine_as_test
from tests.conformance import poll
from tests.conformance.processes import Process, counting_steps, owned
from tests.conformance.shop import Total, counted, tables, totals
from tests.conformance.worlds import (
    DaprWorld,
    DirectWorld,
    Make,
    OutboxTwin,
    TableWorld,
    World,
)
from tests.support.examples import examples

from tidings.dapr import Operation, Sidecar
from tidings.errors import SidecarUnavailable, StateConflict
from tidings.messages.envelope import Envelope
from tidings.outbox.documents import read_document
from tidings.outbox.lanes import Lanes
from tidings.outbox.log import LogOutbox
from tidings.outbox.sql import Database
from tidings.outbox.table import TableOutbox
from tidings.settings import Settings
from tidings.testing import MemorySidecar

T = TypeVar("T")
EPOCH = 1_767_225_600.0  # 2026-01-01T00:00:00Z
INSTANCES = st.sampled_from(["shop-0", "shop-1"])
ITEMS = st.sampled_from(["apple", "pear"])
STEPS = st.integers(0, 30)


# -- virtual time -----------------------------------------------------------------------------------------------------


class Instant(selectors.DefaultSelector):
    """Waits for threads; for a timer it does not wait, it lets time pass."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 0.0
        self.in_flight = 0

    def select(self, timeout: float | None = None) -> Any:
        if self.in_flight or timeout is None:
            return super().select(timeout and 10.0)
        ready = super().select(0)
        if not ready:
            self.now += timeout
        return ready


class VirtualLoop(asyncio.SelectorEventLoop):
    """An event loop on which an hour is over at once."""

    def __init__(self) -> None:
        self.instant = Instant()
        super().__init__(self.instant)

    def time(self) -> float:
        return self.instant.now

    def clock(self) -> float:
        return EPOCH + self.instant.now

    def queue(self) -> SimpleQueue[Any]:
        """Return a queue to a thread; virtual time stops while it holds something."""
        instant = self.instant

        class Counted(SimpleQueue[Any]):
            def put_nowait(self, item: Any) -> None:
                if item[0] is not None:
                    instant.in_flight += 1
                    item[0].add_done_callback(self.done)
                super().put_nowait(item)

            def done(self, _: object) -> None:
                instant.in_flight -= 1

        return Counted()


# -- the model --------------------------------------------------------------------------------------------------------


class Distant(MemorySidecar):
    """A sidecar whose answers are on the way for a while: others see the effect before the caller knows of it."""

    answers_after = 0.0

    async def transact(self, operations: Iterable[Operation]) -> None:
        try:
            await super().transact(operations)
        except StateConflict:  # comes at once, so that who lost the race is back while the winner still waits
            raise
        except BaseException:
            await asyncio.sleep(self.answers_after)
            raise
        await asyncio.sleep(self.answers_after)


class DistantTwin(Distant, OutboxTwin):
    """The same with Dapr's outbox."""


class LogModel(World):
    """The log strategy on the machine's clock."""

    def __init__(self, clock: Callable[[], float], *, atomic: bool) -> None:
        super().__init__(atomic=atomic)
        self.clock = self.store.clock = clock

    def sidecar(self) -> Distant:
        return Distant("shop", self.broker, self.store)

    def outbox(self) -> Make:
        def make(sidecar: Sidecar, provided: Settings) -> LogOutbox:
            return LogOutbox(sidecar, provided.tidings_instance, clock=self.clock)

        return make

    def surroundings(self) -> dict[str, Any]:
        return {"clock": lambda: datetime.fromtimestamp(self.clock(), UTC)}

    async def stored(self) -> dict[str, int]:
        keys = [key for key in list(self.store.keys()) if key.startswith("shop||total/")]
        values = {key: read_document(self.store.read(key)).value for key in keys}
        return {key.split("/")[1]: msgspec.json.decode(value, type=Total).count for key, value in values.items()}


class DaprModel(DaprWorld, LogModel):
    """Dapr's own outbox, in memory, on the machine's clock."""

    def sidecar(self) -> Distant:
        return DistantTwin("shop", self.broker, self.store)


class DirectModel(DirectWorld, LogModel):
    """The direct strategy on the machine's clock: it stores nothing, and only publishes."""

    def sidecar(self) -> Distant:
        return Distant("shop", self.broker, self.store)

    async def stored(self) -> dict[str, int]:
        return {item: len(numbers) for item, numbers in (await self.effects()).items()}


class TableModel(TableWorld):
    """The table strategy on the machine's clock."""

    def __init__(self, clock: Callable[[], float], url: str) -> None:
        super().__init__(url)
        self.clock = clock

    def outbox(self) -> Make:
        def make(sidecar: Sidecar, provided: Settings) -> TableOutbox:
            return TableOutbox(self.url, sidecar, provided.tidings_instance, tables=tables, clock=self.clock)

        return make

    async def stored(self) -> dict[str, int]:
        database = Database(self.url)
        async with database.connect(write=False) as connection:
            rows = await connection.execute(sa.select(totals))
            result = {str(item): int(total) for item, total in rows}
        await database.close()
        return result


class OutboxMachine(RuleBasedStateMachine):
    """Two replicas, a broker that brings again what was not acknowledged, and everything that can go wrong."""

    atomic: ClassVar[bool] = True
    ordered: ClassVar[bool] = True

    def __init__(self) -> None:
        super().__init__()
        self.loop = VirtualLoop()
        self.loop.set_task_factory(owned)
        self.around = ExitStack()
        patch = self.around.enter_context(pytest.MonkeyPatch.context())
        patch.setattr(aiosqlite.core, "SimpleQueue", self.loop.queue)
        self.around.enter_context(counting_steps(patch))
        self.world = self.make()
        self.restarts = True
        self.causes: list[Envelope] = []
        self.waiting: list[Envelope] = []
        self.running: dict[str, tuple[Process, AsyncExitStack]] = {}

    def make(self) -> LogModel | DaprModel | DirectModel | TableModel:
        return LogModel(self.loop.clock, atomic=self.atomic)

    def run(self, work: Awaitable[T]) -> T:
        async def await_it() -> T:
            return await work

        return self.loop.run_until_complete(await_it())

    def alive(self, instance: str) -> Process | None:
        process = self.running[instance][0] if instance in self.running else None
        if process is not None and process.dead:
            self.run(self._end(instance))
            return None
        return process

    async def _end(self, instance: str) -> None:
        _, stack = self.running.pop(instance)
        await stack.aclose()

    async def _deliver(self, process: Process, *causes: Envelope) -> None:
        answers = await asyncio.gather(*(process.deliver(cause) for cause in causes))
        for cause, acknowledged in zip(causes, answers, strict=True):
            if acknowledged and cause in self.waiting:
                self.waiting.remove(cause)

    # -- what happens -----------------------------------------------------------------------------------------------

    @initialize(restarts=st.booleans())
    def begins(self, *, restarts: bool) -> None:
        """Choose whether all replicas restart in the end, or the surviving ones must repair everything alone."""
        self.restarts = restarts
        self.starts("shop-0")

    @rule(instance=INSTANCES)
    def starts(self, instance: str) -> None:
        async def start() -> None:
            stack = AsyncExitStack()
            self.running[instance] = await stack.enter_async_context(self.world.process(instance)), stack

        if self.alive(instance) is None:
            self.run(start())

    @rule(instance=INSTANCES)
    def is_killed(self, instance: str) -> None:
        if self.alive(instance):
            self.run(self._end(instance))

    @rule(instance=INSTANCES)
    def is_stopped(self, instance: str) -> None:
        async def stop(process: Process) -> None:
            with process.inside():
                stopping = asyncio.ensure_future(process.service.stop())
            await asyncio.wait([stopping])
            await self._end(instance)

        if process := self.alive(instance):
            self.run(stop(process))

    @rule(instance=INSTANCES, items=st.lists(ITEMS, min_size=1, max_size=4))
    def are_placed(self, instance: str, items: list[str]) -> None:
        """Place several orders at once, which race for the same documents and rows."""
        causes = [counted(item, len(self.causes)) for item in items]
        self.causes += causes
        self.waiting += causes
        if process := self.alive(instance):
            self.run(self._deliver(process, *causes))

    @rule(instance=INSTANCES, number=st.integers(0, 40))
    def comes_again(self, instance: str, number: int) -> None:
        """Deliver the event again, whether it was acknowledged or not."""
        process = self.alive(instance)
        if process and self.causes:
            self.run(self._deliver(process, self.causes[-1 - number % len(self.causes)]))

    @rule(number=st.integers(0, 40))
    def deliver_to_both(self, number: int) -> None:
        both = [process for process in map(self.alive, ("shop-0", "shop-1")) if process]
        if both and self.causes:
            cause = self.causes[-1 - number % len(self.causes)]

            async def deliver() -> None:
                await asyncio.gather(*(self._deliver(process, cause) for process in both))

            self.run(deliver())

    @rule(instance=INSTANCES, steps=STEPS)
    def will_die(self, instance: str, steps: int) -> None:
        if process := self.alive(instance):
            process.dies_after(steps)

    @rule(instance=INSTANCES, steps=STEPS)
    def will_fail(self, instance: str, steps: int) -> None:
        if process := self.alive(instance):
            process.fails_after(steps)

    @rule(instance=INSTANCES, steps=STEPS)
    def will_cancel(self, instance: str, steps: int) -> None:
        """Cancel a delivery at any point, as a timeout does."""
        if process := self.alive(instance):
            process.cancels_after(steps)

    @rule(instance=INSTANCES, times=st.integers(1, 8), late=st.booleans())
    def cannot_publish(self, instance: str, times: int, late: bool) -> None:
        if process := self.alive(instance):
            error = SidecarUnavailable("broker down")
            process.sidecar.fail("publish", times=times, when="after" if late else "before", error=error)

    @rule(instance=INSTANCES, seconds=st.sampled_from([0.0, 0.02, 0.02]))
    def is_far_away(self, instance: str, seconds: float) -> None:
        """Delay the answers of its sidecar, so that others see changes before it does."""
        process = self.alive(instance)
        if process and isinstance(process.sidecar, Distant):
            process.sidecar.answers_after = seconds

    @rule(instance=INSTANCES, item=ITEMS, more=st.lists(ITEMS, max_size=2), skip=st.sampled_from([0, 0, 1]))
    def an_answer_is_lost(self, instance: str, item: str, more: list[str], skip: int) -> None:
        """Let a commit appear as failed, while others continue with the same document."""
        if process := self.alive(instance):
            process.sidecar.fail("transact", skip=skip, when="after")
            self.are_placed(instance, [item, item, *more])

    @rule(seconds=st.sampled_from([0.01, 0.3, 6.0, 20.0]))
    def time_passes(self, seconds: float) -> None:
        self.run(asyncio.sleep(seconds))

    # -- what holds -------------------------------------------------------------------------------------------------

    @invariant()
    def every_cause_has_one_effect_in_order(self) -> None:
        completed = self.run(self.world.published())
        ids = {entry["causationid"]: entry["id"] for entry in completed}
        assert len({entry["id"] for entry in completed}) == len(ids), "one id for each cause"
        assert ids.keys() <= {cause.id for cause in self.causes}
        for item, numbers in self.run(self.world.effects()).items():
            assert not self.ordered or numbers == list(range(1, len(numbers) + 1)), item

    def teardown(self) -> None:
        try:
            self._all_is_well_in_the_end()
        finally:
            for instance in list(self.running):
                self.run(self._end(instance))
            self.around.close()
            self.loop.run_until_complete(self.loop.shutdown_default_executor())
            self.loop.close()

    def _all_is_well_in_the_end(self) -> None:
        for instance in list(self.running):
            if self.restarts:
                self.run(self._end(instance))
            elif process := self.alive(instance):
                process.heals()
        self.starts("shop-0")
        (process, _) = self.running["shop-0"]
        for _ in range(20):
            if self.waiting:
                self.run(self._deliver(process, *self.waiting))
                self.time_passes(1.0)
        self.time_passes(60.0)
        self.every_cause_has_one_effect_in_order()
        assert self.waiting == []
        assert {item["causationid"] for item in self.run(self.world.published())} == {cause.id for cause in self.causes}
        totals = {item: len(numbers) for item, numbers in self.run(self.world.effects()).items()}
        assert self.run(self.world.stored()) == totals
        assert self.run(self.world.left()) == []
        assert all(item.service.outbox.depth == 0 for item, _ in self.running.values())


class RedisLikeMachine(OutboxMachine):
    """The log strategy on a store whose transactions do not roll back."""

    atomic = False


class DaprMachine(OutboxMachine):
    """Dapr's own outbox."""

    def make(self) -> DaprModel:
        return DaprModel(self.loop.clock, atomic=True)


class DirectMachine(OutboxMachine):
    """The direct strategy: its facts are in the order of their deliveries."""

    ordered = False

    def make(self) -> DirectModel:
        return DirectModel(self.loop.clock, atomic=True)


class TableMachine(OutboxMachine):
    """The table strategy on SQLite."""

    def make(self) -> TableModel:
        folder = Path(tempfile.mkdtemp(prefix="tidings-model-"))
        self.around.callback(shutil.rmtree, folder)
        return TableModel(self.loop.clock, f"sqlite:///{folder / 'shop.db'}")


@pytest.mark.filterwarnings("ignore:The garbage collector is trying to clean up:sqlalchemy.exc.SAWarning")  # the dead's
@pytest.mark.parametrize(
    ("machine", "most"),
    [(OutboxMachine, 150), (RedisLikeMachine, 150), (TableMachine, 20), (DaprMachine, 60), (DirectMachine, 60)],
    ids=lambda item: getattr(item, "__name__", None),
)
def test_nothing_is_lost_and_nothing_has_a_second_effect(machine: type[OutboxMachine], most: int) -> None:
    unhurried = settings(
        max_examples=examples(most),
        stateful_step_count=25,
        deadline=None,
        suppress_health_check=list(HealthCheck),
        print_blob=True,
    )
    run_state_machine_as_test(machine, settings=unhurried)
    gc.collect()  # what the dead left open is complained of here, where it is expected, and not in another test


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning", "ignore::ResourceWarning")
@pytest.mark.parametrize("forgotten", ["uncertain", "committing", "_adopt"])
def test_the_model_finds_what_the_log_strategy_must_not_forget(forgotten: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Commits whose answer got lost, those whose answer is on the way, and what the dead left."""

    async def nothing(*_: object) -> None:
        pass

    monkeypatch.setattr(Lanes, forgotten, nothing if forgotten == "_adopt" else lambda *_: None)
    quickly = settings(
        max_examples=1000,
        stateful_step_count=25,
        deadline=None,
        suppress_health_check=list(HealthCheck),
        database=None,
        phases=[Phase.generate],
    )
    with pytest.raises(AssertionError):
        run_state_machine_as_test(OutboxMachine, settings=quickly)
    gc.collect()  # what the broken one left open is closed within this test


async def test_what_is_committed_is_not_taken_for_delivered_while_its_answer_is_on_the_way() -> None:
    """The model found it: the next unit of work dropped the pointer, and the event was lost."""
    world, late = World(), asyncio.Event()

    class Slow(MemorySidecar):
        async def transact(self, operations: Iterable[Operation]) -> None:
            expected = list(operations)
            await super().transact(expected)
            held.append(expected)
            if len(held) == 1:
                await late.wait()
                raise SidecarUnavailable("the answer got lost")

    held: list[list[Operation]] = []
    async with world.process() as process:
        one = counted(number=1)
        slow = Slow("shop", world.broker, world.store)
        outbox = process.service.outbox
        assert isinstance(outbox, LogOutbox)
        outbox._sidecar = slow
        first = asyncio.ensure_future(process.deliver(one))
        await poll(lambda: held)
        second = asyncio.ensure_future(process.deliver(counted(number=2)))
        await asyncio.sleep(0.05)
        assert await world.effects() == {}, "the first goes first"
        late.set()
        assert (await first, await second) == (False, True)
        await world.until({"apple": [1, 2]})
