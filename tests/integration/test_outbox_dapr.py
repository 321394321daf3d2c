"""Dapr's own outbox on a real sidecar with NATS: what the SDK makes of it, and the limits that the how-to names."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from tests.conformance import Recorder, poll, subscription, unique
from tests.conformance.outbox import OutboxConformance
from tests.conformance.processes import Failing
from tests.conformance.shop import TOPIC, Changed, Counted, Total, counted
from tests.conformance.worlds import Make
from tests.support.realworld import RealWorld

from tidings import Handlers
from tidings.brokers.components import render
from tidings.brokers.jetstream import ensure_streams
from tidings.dapr.client import DaprSidecar
from tidings.errors import DefinitionError
from tidings.outbox.dapr import DaprContext, DaprOutbox
from tidings.settings import Settings
from tidings_cli.testing.fixtures import Serve, StartDaprd

pytestmark = [pytest.mark.real, pytest.mark.timeout(500)]
SETS = Path(__file__).parents[2] / "components"


class RuntimesWorld(RealWorld):
    """An app whose sidecar publishes from the state store, and another app that records the events it receives."""

    accepts = frozenset()

    def outbox(self) -> Make:
        def make(sidecar: Any, settings: Settings) -> DaprOutbox:
            return DaprOutbox(sidecar, {TOPIC: Failing(DaprSidecar(self.address, state="telling"))})

        return make

    async def published(self) -> list[dict[str, Any]]:
        return [{**item, "id": item["eventid"]} for item in await super().published()]

    async def clean_up(self, process: Any) -> None:
        await super().clean_up(process)
        await process.service.outbox.stop(0)


@pytest_asyncio.fixture
async def world(nats: str, daprd: StartDaprd, serve: Serve, tmp_path: Path) -> AsyncIterator[RuntimesWorld]:
    app_id = unique("shop")
    await ensure_streams(nats, [TOPIC, f"default{app_id}{TOPIC}outbox"])
    recorder = Recorder()
    app = await serve(recorder)
    pubsub = render(SETS / "nats", {"NATS_URL": nats})
    (state,) = render(SETS / "state-sqlite", {"STATE_FILE": str(tmp_path / "state.db")})
    outbox = {"outboxPublishPubsub": "pubsub", "outboxPublishTopic": TOPIC}
    more = [{"name": name, "value": value} for name, value in outbox.items()]
    spec = {**state["spec"], "metadata": [*state["spec"]["metadata"], *more]}
    publishing = {**state, "metadata": {"name": "telling"}, "spec": spec}
    await daprd(unique("watcher"), resources=[*pubsub, subscription(TOPIC, "/watch")], app_port=app.port)
    quiet = await serve(Recorder())
    shop = await daprd(app_id, resources=[*pubsub, state, publishing], app_port=quiet.port)
    yield RuntimesWorld(shop.address, recorder)


class TestDapr(OutboxConformance):
    """The suite, but for what would wait for hundreds of events, of which each takes the sidecar a second or more, and
    what takes the broker from the app alone: the sidecar publishes by itself. The twin is held to these as well.

    A transaction that fails because of its etag leaves an internal event behind, which daprd retries for eleven
    seconds, again after each redelivery, while all others wait. Replicas that race for one document cause such
    conflicts, and so does a cancelled delivery, whose transaction goes on while the event is delivered again: with two
    of them left behind, the time until the last event is published has no bound.
    """

    test_two_replicas_publish_every_fact_of_one_item_a_single_time = None  # type: ignore[assignment]
    test_a_delivery_may_be_cancelled_at_any_step = None  # type: ignore[assignment]

    test_any_call_may_fail_or_its_answer_be_lost = None  # type: ignore[assignment]
    test_a_process_may_die_before_and_after_any_step = None  # type: ignore[assignment]
    test_while_the_broker_is_away_events_are_kept_or_refused_and_none_is_lost = None  # type: ignore[assignment]
    test_a_rejected_event_waits_is_parked_and_published_when_possible = None  # type: ignore[assignment]


async def test_events_keep_their_ids_and_metadata_and_take_a_second_per_event(world: RuntimesWorld) -> None:
    async with world.process() as process:
        began = time.monotonic()
        causes = [counted(number=number) for number in (1, 2, 3)]
        for cause in [*causes, causes[0]]:
            assert await process.deliver(cause)
        await world.until({"apple": [1, 2, 3]})
        took = time.monotonic() - began
    published = await world.published()
    assert [item["causationid"] for item in published] == [cause.id for cause in causes]
    assert {(item["type"], item["version"], item["correlationid"]) for item in published} == {
        ("shop.totalChanged", "1", "c")
    }
    # Other tests publish to the same topic of the same broker.
    raw = [item for item in world.recorder.at("/watch") if item["source"] == world.name]
    assert all(item["id"].startswith("outbox-") and item["id"] != item["eventid"] for item in raw)
    assert took >= 3.0, "the sidecar sleeps a second before each"


async def test_a_call_whose_response_is_lost_publishes_a_single_time(world: RuntimesWorld) -> None:
    async with world.process() as process:
        outbox = process.service.outbox
        assert isinstance(outbox, DaprOutbox)
        sidecar = outbox._publishing[TOPIC]
        assert isinstance(sidecar, Failing)
        sidecar.fail("transact", when="after")
        cause = counted()
        assert [await process.deliver(cause) for _ in range(2)] == [False, True]
        await world.until({"apple": [1]})
        await asyncio.sleep(1.5)
        assert len(await world.published()) == 1


async def test_what_publishes_nothing_is_written_through_the_plain_component(world: RuntimesWorld) -> None:
    async def keep(message: Counted, context: DaprContext) -> None:
        await context.load(Total, message.item)
        context.save(message.item, Total(count=7))

    async def read(_: object, context: DaprContext) -> int:
        return (await context.load(Total, "apple") or Total()).count

    world.handlers = Handlers()
    world.handlers.on(Counted)(keep)
    async with world.process() as process:
        assert await process.deliver(counted())
        assert await process.service.execute(read, None) == 7
        await asyncio.sleep(2.0)
    assert await world.published() == []


async def test_a_unit_of_work_publishes_to_one_topic(world: RuntimesWorld) -> None:
    async def both(message: Counted, context: DaprContext) -> None:
        context.publish(Changed(item=message.item, total=1))
        context.publish(message)

    async with world.process() as process:
        with pytest.raises(DefinitionError, match="one topic per state component"):
            await process.service.execute(both, Counted(item="apple", number=1))


async def test_several_events_of_a_unit_are_all_published(world: RuntimesWorld) -> None:
    async def three(message: Counted, context: DaprContext) -> None:
        for total in (1, 2, 3):
            context.publish(Changed(item=message.item, total=total))

    async with world.process() as process:
        await process.service.execute(three, Counted(item="apple", number=1))
        await poll(lambda: len(world.recorder.at("/watch")) >= 3)
        await world.until({"apple": [1, 2, 3]})
