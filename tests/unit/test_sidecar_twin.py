"""Capabilities of the test double beyond the sidecar's behaviour: whole systems, order, faults, time."""

from __future__ import annotations

import asyncio
import json
import random
from typing import Any

import pytest
from tests.conformance import Recorder, event, retry_policy, subscription

from tidings.dapr import Upsert
from tidings.errors import DefinitionError, PublishRefused, SidecarUnavailable, StateConflict
from tidings.testing import Clock, Crash, MemoryBroker, MemorySidecar, MemoryStore, Unsettled, lifespan, post
from tidings.testing.asgi import App


def system(broker: MemoryBroker, topic: str = "t") -> tuple[MemorySidecar, Recorder]:
    app = Recorder()
    broker.attach("kitchen", app, [subscription(topic, "/a")], resiliency=retry_policy(3))
    return MemorySidecar("orders", broker), app


async def publish(sidecar: MemorySidecar, *names: str, topic: str = "t") -> None:
    for name in names:
        await sidecar.publish(topic, event(id=name).encode())


async def test_nothing_is_delivered_before_settle_and_then_in_the_order_of_publishing() -> None:
    broker = MemoryBroker()
    orders, app = system(broker)
    broker.attach("loyalty", app, [subscription("t", "/b"), subscription("u", "/c")])
    await publish(orders, "1")
    await publish(orders, "2", topic="u")
    await publish(orders, "3")
    assert app.received == []
    await broker.settle()
    assert [(path, item["id"]) for path, item in app.received] == [
        ("/a", "1"), ("/b", "1"), ("/c", "2"), ("/a", "3"), ("/b", "3"),
    ]  # fmt: skip
    assert broker.topics == ["t", "u"]
    assert [item["id"] for item in broker.events("t")] == ["1", "3"]
    assert [delivery.verdict for delivery in broker.deliveries] == ["done"] * 5


async def test_concurrent_calls_of_settle_deliver_each_event_once() -> None:
    broker, recorder = MemoryBroker(), Recorder()

    async def slow(scope: Any, receive: Any, send: Any) -> None:
        await asyncio.sleep(0)
        await recorder(scope, receive, send)

    broker.attach("kitchen", slow, [subscription("t", "/a")])
    await publish(MemorySidecar("orders", broker), "1", "2")
    await asyncio.gather(broker.settle(), broker.settle())
    assert recorder.ids("/a") == ["1", "2"]


async def test_a_seed_shuffles_the_same_way_every_time() -> None:
    orders = []
    for seed in (1, 1, 2):
        broker = MemoryBroker(shuffle=random.Random(seed))
        sidecar, app = system(broker)
        await publish(sidecar, *map(str, range(20)))
        await broker.settle()
        orders.append(app.ids("/a"))
    assert orders[0] == orders[1] != orders[2]
    assert sorted(orders[0], key=int) == list(map(str, range(20))) != orders[0]


async def test_an_app_attached_later_receives_all_events_and_a_returning_one_the_missed_events() -> None:
    broker = MemoryBroker()
    orders, early = system(broker)
    await publish(orders, "1")
    await broker.settle()
    broker.detach("kitchen")
    await publish(orders, "2")
    late, again = Recorder(), Recorder()
    broker.attach("archive", late, [subscription("t", "/a")])
    await broker.settle()
    assert [(app_id, topic) for app_id, topic, _ in broker.stuck()] == [("kitchen", "t")]
    broker.attach("kitchen", again, [subscription("t", "/a")])
    await broker.settle()
    assert (early.ids("/a"), late.ids("/a"), again.ids("/a")) == (["1"], ["1", "2"], ["2"])
    assert broker.stuck() == []


async def test_a_failure_without_a_dead_letter_topic_comes_again_with_the_next_settle() -> None:
    broker = MemoryBroker()
    orders, app = system(broker)
    app.answers["/a"] = [(500, b"")] * 4 + [(200, b"")]
    await publish(orders, "1")
    await broker.settle()
    assert app.ids("/a") == ["1"] * 4  # one attempt and three retries
    await broker.settle()
    assert app.ids("/a") == ["1"] * 5


async def test_unlimited_retries_are_one_attempt_per_settle_and_never_a_dead_letter() -> None:
    broker, app = MemoryBroker(), Recorder()
    app.answers["/a"] = [(500, b"")]
    programme = [subscription("t", "/a", "dead"), subscription("dead", "/dead")]
    broker.attach("kitchen", app, programme, resiliency=retry_policy(-1))
    await publish(MemorySidecar("orders", broker), "1")
    for attempt in range(1, 4):
        await broker.settle()
        assert app.ids("/a") == ["1"] * attempt
    assert app.at("/dead") == []


async def test_what_is_no_json_is_a_dead_letter_without_an_attempt() -> None:
    broker, app = MemoryBroker(), Recorder()
    broker.attach("kitchen", app, [subscription("t", "/a", "dead")])
    for message in (b"{", b"[]"):
        broker.publish("t", message)
    await broker.settle()
    assert app.received == []
    with pytest.raises(json.JSONDecodeError):
        broker.events("dead")


async def test_an_app_that_raises_has_failed_and_one_that_stops_itself_is_not_asked_again() -> None:
    broker, calls = MemoryBroker(), []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        calls.append(scope["path"])
        broker.detach("kitchen")
        raise RuntimeError("a bug")

    broker.attach("kitchen", app, [subscription("t", "/a", "dead")], resiliency=retry_policy(3))
    await publish(MemorySidecar("orders", broker), "1")
    await broker.settle()
    assert calls == ["/a"]
    assert broker.topics == ["t"]
    assert len(broker.stuck()) == 1


async def test_what_handlers_publish_and_what_runs_next_to_them_is_delivered_too() -> None:
    broker = MemoryBroker()
    orders, app = system(broker, "second")
    later: list[str] = []

    async def relay(scope: Any, receive: Any, send: Any) -> None:
        later.append(json.loads((await receive())["body"])["id"])
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b""})

    async def drain() -> None:
        while later:
            await publish(orders, f"after-{later.pop()}", topic="second")

    broker.attach("relay", relay, [subscription("first", "/a")])
    broker.while_busy(drain)
    await publish(orders, "1", topic="first")
    await broker.settle()
    assert app.ids("/a") == ["after-1"]


async def test_a_loop_of_events_is_detected() -> None:
    broker = MemoryBroker()
    sidecar = MemorySidecar("kitchen", broker)

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await publish(sidecar, "again")
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b""})

    broker.attach("kitchen", app, [subscription("t", "/a")])
    await publish(sidecar, "1")
    with pytest.raises(Unsettled, match="loop"):
        await broker.settle()


@pytest.mark.parametrize(
    "programme",
    [
        [subscription("t", "/a"), subscription("t", "/b")],
        [{"spec": {"pubsubname": "other", "topic": "t", "routes": {"default": "/a"}}}],
        [subscription("t", {"rules": [{"match": "event.type ==", "path": "/a"}]})],
    ],
)
def test_a_programme_that_daprd_would_not_carry_out_is_refused(programme: list[dict[str, Any]]) -> None:
    with pytest.raises(DefinitionError, match="kitchen"):
        MemoryBroker().attach("kitchen", Recorder(), programme)


async def test_a_subscription_scoped_to_other_apps_is_ignored() -> None:
    broker, app = MemoryBroker(), Recorder()
    broker.attach("kitchen", app, [{**subscription("t", "/a"), "scopes": ["orders"]}])
    await publish(MemorySidecar("orders", broker), "1")
    await broker.settle()
    assert app.received == []


async def test_faults_come_before_or_after_the_effect_as_often_and_as_late_as_asked() -> None:
    sidecar = MemorySidecar("orders")
    sidecar.fail("transact", when="after")
    sidecar.fail("publish", times=2, skip=1, error=PublishRefused("no"))
    with pytest.raises(SidecarUnavailable):
        await sidecar.transact([Upsert("k", b"1", insert=True)])
    with pytest.raises(StateConflict):  # it was carried out all the same
        await sidecar.transact([Upsert("k", b"1", insert=True)])
    outcomes = await asyncio.gather(*(publish(sidecar, name) for name in "abcd"), return_exceptions=True)
    assert [type(outcome) for outcome in outcomes] == [type(None), PublishRefused, PublishRefused, type(None)]
    assert [item["id"] for item in sidecar.broker.events("t")] == ["a", "d"]
    assert sidecar.calls == ["transact", "transact", "publish", "publish", "publish", "publish"]
    sidecar.fail()
    with pytest.raises(SidecarUnavailable):
        await sidecar.get("k")
    assert await sidecar.get("k") == sidecar.store.read("orders||k")
    assert sidecar.store.keys() == ["orders||k"]


async def test_a_crash_while_handling_brings_the_message_again_to_the_next_process() -> None:
    broker, store = MemoryBroker(), MemoryStore()

    def process() -> tuple[MemorySidecar, App]:
        sidecar = MemorySidecar("kitchen", broker, store)

        async def app(scope: Any, receive: Any, send: Any) -> None:
            await sidecar.transact([Upsert("done", b"1")])
            await send({"type": "http.response.start", "status": 200, "headers": []})
            await send({"type": "http.response.body", "body": b""})

        broker.attach("kitchen", app, [subscription("t", "/a")])
        return sidecar, app

    first, _ = process()
    first.fail("transact", when="after", error=Crash())
    await publish(first, "1")
    with pytest.raises(Crash):
        await broker.settle()
    assert store.keys() == ["kitchen||done"]
    second, _ = process()
    await broker.settle()
    assert second.calls == ["transact"]
    assert broker.stuck() == []


async def test_time_passes_only_on_request_of_a_test() -> None:
    clock = Clock(100.0)
    sidecar = MemorySidecar("orders", store=MemoryStore(clock))
    await sidecar.transact([Upsert("k", b"1", ttl=60)])
    clock.advance(59.9)
    assert await sidecar.get("k") is not None
    clock.advance(0.1)
    assert await sidecar.get("k") is None
    await sidecar.close()


@pytest.mark.parametrize("failing", ["startup", "shutdown", None])
async def test_a_lifespan_starts_and_stops_and_its_failures_are_reported(failing: str | None) -> None:
    received = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        for phase in ("startup", "shutdown"):
            received.append((await receive())["type"])
            if phase == failing:
                await send({"type": f"lifespan.{phase}.failed", "message": "no database"})
                return
            await send({"type": f"lifespan.{phase}.complete"})

    if failing is None:
        async with lifespan(app):
            assert received == ["lifespan.startup"]
        assert received == ["lifespan.startup", "lifespan.shutdown"]
    else:
        with pytest.raises(RuntimeError, match="no database"):
            async with lifespan(app):
                pass


async def test_an_app_that_dies_at_startup_raises_what_it_died_of() -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        raise OSError("no disk")

    with pytest.raises(OSError, match="no disk"):
        async with lifespan(app):
            pass


async def test_post_gives_the_whole_answer_and_the_app_the_whole_request() -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        body = (await receive())["body"]
        assert (await receive())["type"] == "http.disconnect"
        await send({"type": "http.response.start", "status": 201, "headers": []})
        await send({"type": "http.response.body", "body": scope["path"].encode(), "more_body": True})
        await send({"type": "http.response.body", "body": body})

    assert await post(app, "/a", b"b") == (201, b"/ab")
