"""Guarantees of every outbox strategy: one suite for all, in memory and on real programs.

    class TestMine(OutboxConformance):
        @pytest.fixture
        def world(self): return MyWorld()

A world is one app on a broker and a store that outlive its processes. Its processes die without a word, before or
after any *step*: a call of the sidecar, a statement, a commit. After its death no step of a process has an effect.
What a strategy does not promise is an attribute of its world, and the suite then shows that it is so.
"""

from __future__ import annotations

import asyncio
import gc
import itertools
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, ClassVar

import msgspec
import pytest
from tests.conformance.processes import Process, counting_steps
from tests.conformance.shop import counted
from tests.conformance.support import PATIENCE
from tests.conformance.worlds import World

from tidings.errors import SidecarError, TopicMissing
from tidings.messages.envelope import Envelope
from tidings.outbox import cdc, lanes, table_relay


class OutboxConformance:
    """Committed messages are published: exactly once in effect, in order, with one id, despite failures."""

    pytestmark: ClassVar = [
        pytest.mark.asyncio,
        # The dead return no connections; the collector finds them.
        pytest.mark.filterwarnings("ignore:The garbage collector is trying to clean up:sqlalchemy.exc.SAWarning"),
    ]

    @pytest.fixture(autouse=True)
    def _steps(self, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
        # After failures, all that a test would do is wait for the next attempt.
        for module, pause in ((lanes, "_LONGEST_AWAY"), (table_relay, "_LONGEST_LOOK"), (cdc, "_LONGEST_PAUSE")):
            monkeypatch.setattr(module, pause, 0.2)
        with counting_steps(monkeypatch):
            yield
        gc.collect()  # what the dead left open is complained of here, where it is expected, and not in another test

    async def test_a_fact_is_published_with_the_metadata_of_its_cause_and_nothing_is_left(self, world: World) -> None:
        async with world.process() as process:
            cause = counted()
            assert await process.deliver(cause)
            await world.until({"apple": [1]})
            await process.published_all()
            (published, *_) = await world.published()
            assert (published["causationid"], published["correlationid"], published["type"]) == (
                cause.id,
                "c",
                "shop.totalChanged",
            )
            assert (published["source"], published["subject"], published["version"]) == (world.name, "apple", "1")
            await world.until_nothing_is_left()

    async def test_trace_context_and_baggage_of_the_cause_are_published_with_the_fact(self, world: World) -> None:
        trace = {
            "traceparent": f"00-{'a' * 32}-{'b' * 16}-01",
            "tracestate": "vendor=1",
            "baggage": "tenant=caf%C3%A9;kept=1,tier=gold",
        }
        async with world.process() as process:
            assert await process.deliver(msgspec.structs.replace(counted(), **trace))
            await world.until({"apple": [1]})
            (published, *_) = await world.published()
        assert {name: published.get(name) for name in trace} == trace

    async def test_a_cause_that_comes_again_has_no_second_effect(self, world: World) -> None:
        cause = counted()
        async with world.process("shop-0") as one, world.process("shop-1") as other:
            for process in [one, other] * 2:
                assert await process.deliver(cause)
            await world.until({"apple": [1]})
            assert await one.deliver(counted(number=2))
            await world.until({"apple": [1, 2]})

    async def test_the_facts_of_one_item_are_published_in_order(self, world: World) -> None:
        async with world.process() as process:

            async def count(item: str) -> None:
                for number in range(1, 6):
                    assert await process.deliver(counted(item, number))

            await asyncio.gather(*(count(f"item-{number}") for number in range(3)))
            await world.until({f"item-{number}": [1, 2, 3, 4, 5] for number in range(3)})

    async def test_two_replicas_publish_every_fact_of_one_item_a_single_time(self, world: World) -> None:
        causes = [counted(number=number) for number in range(1, world.contended + 1)]
        async with world.process("shop-0") as one, world.process("shop-1") as other:
            await asyncio.gather(
                *(
                    self.deliver_all(item, [cause])
                    for item, cause in zip(itertools.cycle([one, other]), causes, strict=False)
                )
            )
            await world.until_published(causes)
            await one.published_all()
            await other.published_all()
            await world.until_nothing_is_left()
            totals = [item["data"]["total"] for item in await world.published()]
        assert (totals if world.ordered else sorted(totals)) == list(range(1, world.contended + 1))

    async def test_while_the_broker_is_away_events_are_kept_or_refused_and_none_is_lost(self, world: World) -> None:
        causes = [counted(number=number) for number in (1, 2, 3)]
        async with world.process() as process:
            with self.away(process):
                accepted = [await process.deliver(cause) for cause in causes]
                assert accepted == ["broker" in world.accepts] * 3
                assert (process.service.outbox.depth > 0) == ("broker" in world.accepts)
                assert await world.effects() == {}
            await self.deliver_all(process, causes)
            await world.until({"apple": [1, 2, 3]})
            await process.published_all()

    async def test_while_the_sidecar_is_away_events_are_kept_or_refused_and_none_is_lost(self, world: World) -> None:
        causes = [counted(number=number) for number in (1, 2, 3)]
        async with world.process() as process:
            process.sidecar.down = True
            assert [await process.deliver(cause) for cause in causes] == ["sidecar" in world.accepts] * 3
            process.sidecar.down = False
            await self.deliver_all(process, causes)
            await world.until({"apple": [1, 2, 3]})

    async def test_a_rejected_event_waits_is_parked_and_published_when_possible(
        self, world: World, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        world.hurry(monkeypatch)
        monkeypatch.setattr(lanes, "_LONGEST_REFUSED", 0.5)  # parked events are retried after it
        parks, causes = "broker" in world.accepts, [counted(number=1), counted(number=2)]
        async with world.process() as process:
            if parks:
                with refusing(process.sidecar, b'"total":1}'):
                    assert [await process.deliver(cause) for cause in causes] == [True] * 2
                    await world.until_first("apple", 2)
                await world.release(process)
            else:
                process.sidecar.fail("publish", times=world.tries, error=TopicMissing("no such topic"))
                assert [await process.deliver(cause) for cause in causes] == [False] * 2
            await self.deliver_all(process, causes)
            await world.until({"apple": [2, 1] if parks else [1, 2]})
            await process.published_all()
            await world.until_nothing_is_left()

    async def test_what_is_parked_outlives_its_process(self, world: World, monkeypatch: pytest.MonkeyPatch) -> None:
        world.hurry(monkeypatch)
        causes = [counted(number=1), counted(number=2)]
        if "broker" not in world.accepts:
            return  # nothing is kept, so nothing is parked
        async with world.process() as process:
            process.sidecar.fail("publish", times=world.tries, error=TopicMissing("no such topic"))
            assert all([await process.deliver(cause) for cause in causes])
            await world.until({"apple": [2]})
            await process.kill()
        async with world.process() as process:
            await world.release(process)
            await world.until({"apple": [2, 1]})
            await world.until_nothing_is_left()

    async def test_any_call_may_fail_or_its_answer_be_lost(self, world: World) -> None:
        async with world.process() as process:
            for number in itertools.count():
                before, causes = process.steps, [counted(f"item-{number}", item) for item in (1, 2)]
                process.fails_after(number)
                await self.deliver_all(process, causes)
                await process.published_all()
                if process.steps - before <= number:
                    break
            await world.until({f"item-{item}": [1, 2] for item in range(number + 1)})
        assert number >= 2, "steps that can fail"

    async def test_a_delivery_may_be_cancelled_at_any_step(self, world: World) -> None:
        async with world.process() as process:
            for number in itertools.count():
                before, causes = process.steps, [counted(f"item-{number}", item) for item in (1, 2)]
                process.cancels_after(number)
                await self.deliver_all(process, causes)
                await process.published_all()
                if process.steps - before <= number:
                    break
            process.heals()
            await world.until({f"item-{item}": [1, 2] for item in range(number + 1)})
            await world.until_nothing_is_left()
        assert number >= 2, "steps at which a delivery can be cancelled"

    async def test_a_process_may_die_before_and_after_any_step(self, world: World) -> None:
        expected: dict[str, list[int]] = {}
        for number in itertools.count():
            causes = [counted(f"item-{number}", item) for item in (1, 2)]
            async with world.process() as process:
                process.dies_after(number)
                for cause in causes:
                    await process.deliver(cause)
                await process.published_all()
                died = process.dead
            expected[f"item-{number}"] = [1, 2]
            async with world.process() as process:  # what was not acknowledged is brought again; what was, may be
                await self.deliver_all(process, causes)
                await world.until(expected)
                await world.until_nothing_is_left()
            if not died:
                break
        assert number >= 4, "steps that a process can die at"

    async def test_what_a_dead_instance_left_is_published_by_another(
        self, world: World, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        world.hurry(monkeypatch)
        cause = counted()
        async with world.process("shop-0") as process:
            with self.away(process):
                accepted = await process.deliver(cause)
                await process.kill()
        async with world.process("shop-1") as process:
            if not accepted:
                assert await process.deliver(cause)
            await world.until({"apple": [1]})
            assert await process.deliver(counted(number=2))
            await world.until({"apple": [1, 2]})

    async def test_a_stop_publishes_pending_messages(self, world: World) -> None:
        async with world.process() as process:
            for number in (1, 2, 3):
                assert await process.deliver(counted(number=number))
            with process.inside():
                await process.service.stop()
            await world.until({"apple": [1, 2, 3]})
            assert process.service.outbox.depth == 0

    async def test_a_stop_that_cannot_publish_ends_and_the_next_start_publishes(self, world: World) -> None:
        cause = counted()
        async with world.process() as process:
            process.service.settings.__dict__["tidings_drain"] = 0.05
            with self.away(process):
                accepted = await process.deliver(cause)
                with process.inside():
                    await asyncio.wait_for(process.service.stop(), 60)
        async with world.process() as process:
            if not accepted:
                assert await process.deliver(cause)
            await world.until({"apple": [1]})

    @contextmanager
    def away(self, process: Process) -> Iterator[None]:
        """Let the broker be away for as long as the context lasts."""
        process.sidecar.fail("publish", times=1_000_000)
        yield
        process.sidecar.heal()

    async def deliver_all(self, process: Process, causes: Sequence[Envelope]) -> None:
        """Deliver as a broker does: in order, each until it is acknowledged."""
        for cause in causes:
            deadline = time.monotonic() + PATIENCE
            while not await process.deliver(cause):
                assert time.monotonic() < deadline, f"{cause.data!r} is not acknowledged within {PATIENCE} s"
                await asyncio.sleep(0.01)


@contextmanager
def refusing(sidecar: Any, part: bytes) -> Iterator[None]:
    """Refuse every event that contains this, for as long as the context lasts."""
    publish, publish_many = sidecar.publish, sidecar.publish_many
    refused = TopicMissing("no such topic")

    async def one(topic: str, data: bytes, *, metadata: Mapping[str, str] | None = None) -> None:
        if part in data:
            raise refused
        await publish(topic, data, metadata=metadata)

    async def many(topic: str, events: Sequence[bytes]) -> list[SidecarError | None]:
        answers = iter(await publish_many(topic, [event for event in events if part not in event]))
        return [refused if part in event else next(answers) for event in events]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sidecar, "publish", one)
        patch.setattr(sidecar, "publish_many", many)
        yield
