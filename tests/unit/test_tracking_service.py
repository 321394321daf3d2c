"""Tracking as it runs: planned from the contracts, fed with its producers' published examples, watched over HTTP."""

from __future__ import annotations

import asyncio
import itertools
import json
import os
import random
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx2
import msgspec
import pytest
from tests.conformance import poll
from tests.support.cancelling import ROUNDS, SEED, Client, numbers, uncollected
from tests.support.contracts import contract_files

from tidings import Service, Settings
from tidings.errors import SidecarUnavailable
from tidings.fastapi import EventApp, create_app
from tidings.messages.envelope import Envelope, timestamp
from tidings.messages.events import message_type
from tidings.testing import MemoryBroker, MemorySidecar, MemoryStore
from tidings_cli.testing.programs import Ports
from tidings_cli.testing.serving import Served
from tidings_plan import plan
from tidings_plan.resources import contracts_folders, load
from tracking import api, handlers
from tracking.adapters.stopping import at_stop
from tracking.main import life
from tracking.settings import TrackingSettings
from tracking.use_cases import model, rebuilding, sharing, timeline
from tracking.use_cases.live import Live
from tracking.use_cases.live import live as current_changes

ROOT = Path(__file__).parents[2]
INVENTORY = load(contracts_folders(ROOT))
PLAN = plan(INVENTORY).apps["tracking"]
NOON = datetime(2026, 3, 14, 12, tzinfo=UTC)
COMPLETED = "archive.replayCompleted.v1"
FAST = TrackingSettings(poll=0.05)


def example(label: str, order_id: str = "o-1", **changed: Any) -> dict[str, Any]:
    result = contract_files(f"examples/{label}.json")
    return {**json.loads(result[0].read_text()), "orderId": order_id, **changed}


class Fed:
    """Events as their producers send them, each a second after the other."""

    def __init__(self, broker: MemoryBroker) -> None:
        self._seconds = itertools.count()
        self._broker = broker
        self._sender = MemorySidecar("orders", broker)
        self.sent: list[tuple[str, bytes]] = []

    async def receive(self, *labels: str, order_id: str = "o-1", **changed: Any) -> None:
        for label in labels:
            await self.raw(label, self.event(label, example(label, order_id, **changed)))

    def event(self, label: str, data: dict[str, Any]) -> Envelope:
        kind, _, version = label.rpartition(".v")
        second = next(self._seconds)
        return Envelope(
            id=f"e-{second:03}",
            source=kind.split(".")[0],
            type=kind,
            specversion="1.0",
            version=version,
            time=timestamp(NOON + timedelta(seconds=second)),
            data=msgspec.Raw(msgspec.json.encode(data)),
        )

    async def raw(self, topic: str, event: Envelope) -> None:
        self.sent.append((topic, event.encode()))
        await self._sender.publish(topic, event.encode())
        await self._broker.settle()


class Tracking(Fed):
    """One replica behind a real HTTP server, for streams."""

    def __init__(self, app: EventApp, broker: MemoryBroker, sidecar: MemorySidecar, http: httpx2.AsyncClient) -> None:
        super().__init__(broker)
        self.app = app
        self.broker = broker
        self.sidecar = sidecar
        self.http = http

    async def order(self, order_id: str = "o-1") -> dict[str, Any]:
        answer = await self.http.get(f"/track/{order_id}")
        assert answer.status_code == 200, answer.text
        body: dict[str, Any] = answer.json()
        return body

    @asynccontextmanager
    async def stream(self, path: str, last_id: str | None = None) -> AsyncIterator[AsyncIterator[dict[str, str]]]:
        headers = {"Last-Event-ID": last_id} if last_id else {}
        async with self.http.stream("GET", path, headers=headers) as answer:
            assert answer.headers["content-type"].startswith("text/event-stream")
            yield frames(answer.aiter_lines())


async def frames(lines: AsyncIterator[str]) -> AsyncIterator[dict[str, str]]:
    frame: dict[str, str] = {}
    async for line in lines:
        if line:
            name, _, value = line.partition(": ")
            frame[name] = value
        elif "data" in frame:
            yield frame
            frame = {}


async def following(stream: AsyncIterator[dict[str, str]]) -> dict[str, str]:
    return await asyncio.wait_for(anext(stream), 60)


@asynccontextmanager
async def replica(broker: MemoryBroker, store: MemoryStore, ports: Ports) -> AsyncIterator[Tracking]:
    sidecar = MemorySidecar("tracking", broker, store)
    policy = PLAN.policy
    service = Service("tracking", handlers.handlers, settings=Settings(), sidecar=sidecar, policy=policy)
    app = create_app(service, [api.router], background=life)
    broker.attach("tracking", app, PLAN.subscriptions, resiliency=PLAN.resiliency)
    server = Served(app, ports.take())
    await server.start()
    async with httpx2.AsyncClient(base_url=server.url, timeout=60) as http:
        while (await http.get("/readyz")).status_code != 200:  # noqa: ASYNC110 - asked, as by a probe
            await asyncio.sleep(0.01)
        yield Tracking(app, broker, sidecar, http)
    await server.stop()


@pytest.fixture
def free() -> Any:
    with Ports() as ports:
        yield ports


@pytest.fixture(autouse=True)
def fresh(monkeypatch: pytest.MonkeyPatch) -> None:
    current_changes.cache_clear()
    for module in (api, sharing):
        monkeypatch.setattr(module, "settings", lambda: FAST)


@pytest.fixture
async def tracking(free: Ports) -> AsyncIterator[Tracking]:
    async with replica(MemoryBroker(), MemoryStore(), free) as result:
        yield result


TO_THE_OVEN = (
    "orders.orderPlaced.v1",
    "payments.paymentAuthorised.v1",
    "orders.orderConfirmed.v2",
    "kitchen.preparationStarted.v1",
    "kitchen.pizzaPrepared.v1",
    "kitchen.pizzaBaked.v1",
    "kitchen.qualityChecked.v1",
    "kitchen.pizzaBoxed.v1",
)
DELIVERED = (
    *TO_THE_OVEN,
    "delivery.driverAssigned.v1",
    "delivery.orderCollected.v1",
    "delivery.orderDelivered.v1",
    "orders.orderCompleted.v1",
)
STAGES = [
    *("placed", "paid", "confirmed", "preparing", "baking", "baking", "checked", "boxed"),
    *("driverAssigned", "outForDelivery", "delivered", "completed"),
]


async def test_an_order_publishes_every_step(tracking: Tracking) -> None:
    assert (await tracking.http.get("/track/o-1")).status_code == 404
    seen = []
    for number, label in enumerate(DELIVERED, start=1):
        await tracking.receive(label)
        order = await tracking.order()
        seen.append(order["stage"])
        assert len(order["timeline"]) == number
        assert order["message"]
        assert order["finished"] is (label == "orders.orderCompleted.v1")
    assert seen == STAGES
    assert order["fulfilment"] == "delivery"
    assert order["totalCents"] == sum(line["quantity"] * line["unitPriceCents"] for line in order["lines"]) > 0
    assert order["updatedAt"] == order["timeline"][-1]["time"]
    assert set(order["timeline"][0]) == {"id", "type", "version", "time", "source", "words"}
    assert [entry["type"] for entry in order["timeline"]] == [label.rpartition(".v")[0] for label in DELIVERED]


@pytest.mark.parametrize("seed", range(3))
async def test_any_order_of_arrival_comes_to_the_same(tracking: Tracking, seed: int) -> None:
    await tracking.receive(*DELIVERED)
    expected = await tracking.order()
    events = [*tracking.sent, *tracking.sent]
    random.Random(seed).shuffle(events)
    for topic, body in events:
        moved = body.replace(b'"o-1"', b'"o-2"').replace(b'"id":"e-', b'"id":"f-')
        await tracking._sender.publish(topic, moved)
    await tracking.broker.settle()
    order = await tracking.order("o-2")
    same = [name for name in expected if name not in ("orderId", "timeline")]
    assert {name: order[name] for name in same} == {name: expected[name] for name in same}
    assert [item["words"] for item in order["timeline"]] == [item["words"] for item in expected["timeline"]]


@pytest.mark.parametrize("model", timeline.TRACKED_EVENTS, ids=lambda model: message_type(model).label)
async def test_every_event_of_the_way_has_words(model: type[Any]) -> None:
    label = message_type(model).label
    for path in contract_files(f"examples/{label}*.json"):
        words, _ = timeline.describe(msgspec.json.decode(path.read_bytes(), type=model))
        assert words.endswith(".")
        assert "_" not in words
    assert label in {entry.topic for entry in PLAN.policy.subscriptions} or not INVENTORY.type(
        ("default", label.rpartition(".v")[0])
    )


async def test_the_pickup_code_is_shown_to_who_knows_the_order_while_it_waits(tracking: Tracking) -> None:
    await tracking.receive("orders.orderConfirmed.v2")
    assert (await tracking.order())["pickupCode"] is None
    async with tracking.stream("/stream") as board:
        await tracking.receive("pickup.orderShelved.v1", code="7K2QM")
        assert "7K2QM" not in (await following(board))["data"]
    assert (await tracking.order())["pickupCode"] == "7K2QM"
    assert "7K2QM" not in (await tracking.http.get("/track")).text
    await tracking.receive("pickup.orderCollected.v1")
    assert (await tracking.order())["pickupCode"] is None


async def test_a_cancelled_order_has_a_reason(tracking: Tracking) -> None:
    await tracking.receive("orders.orderPlaced.v1", "payments.paymentRefused.v1")
    await tracking.receive("orders.orderCancelled.v1", reason="paymentRefused")
    order = await tracking.order()
    assert (order["stage"], order["reason"], order["finished"]) == ("cancelled", "paymentRefused", True)
    assert "refused" in order["message"]


async def test_the_latest_orders_are_listed(tracking: Tracking) -> None:
    for number in (1, 2, 3, 1):
        await tracking.receive("orders.orderPlaced.v1", order_id=f"o-{number}")
    result = (await tracking.http.get("/track", params={"limit": 2})).json()["orders"]
    assert [item["orderId"] for item in result] == ["o-1", "o-3"]
    assert "timeline" not in result[0]


# -- streams ----------------------------------------------------------------------------------------------------------


async def test_a_stream_sends_every_change_and_resumes_at_its_position(tracking: Tracking) -> None:
    await tracking.receive("orders.orderPlaced.v1")
    async with tracking.stream("/track/o-1/stream") as stream:
        first = await following(stream)
        assert (first["event"], first["id"]) == ("order", "1-placed")
        assert json.loads(first["data"]) == await tracking.order()
        await tracking.receive("payments.paymentAuthorised.v1")
        assert (await following(stream))["id"] == "2-paid"
    await tracking.receive("orders.orderConfirmed.v2")
    async with tracking.stream("/track/o-1/stream", last_id="2-paid") as stream:
        again = await following(stream)
        assert (again["id"], json.loads(again["data"])["stage"]) == ("3-confirmed", "confirmed")
    async with tracking.stream("/track/o-1/stream", last_id="3-confirmed") as stream:
        nothing = asyncio.ensure_future(anext(stream))
        await asyncio.sleep(0.2)
        assert not nothing.done()
        await tracking.receive("kitchen.preparationStarted.v1")
        assert (await asyncio.wait_for(nothing, 60))["id"] == "4-preparing"


async def test_a_stream_waits_for_an_order_that_is_not_known_yet_and_for_a_store_that_is_away(
    tracking: Tracking,
) -> None:
    async with tracking.stream("/track/o-9/stream") as stream:
        waiting = asyncio.ensure_future(anext(stream))
        tracking.sidecar.down = True
        await asyncio.sleep(0.15)
        tracking.sidecar.down = False
        assert not waiting.done()
        await tracking.receive("orders.orderPlaced.v1", order_id="o-9")
        assert json.loads((await asyncio.wait_for(waiting, 60))["data"])["orderId"] == "o-9"


async def test_the_stream_of_all_orders_sends_every_change_and_what_was_missed(tracking: Tracking) -> None:
    async with tracking.stream("/stream") as stream:
        ahead = asyncio.ensure_future(anext(stream))
        await asyncio.sleep(0.05)
        await tracking.receive("orders.orderPlaced.v1")
        first = await asyncio.wait_for(ahead, 60)
        assert "timeline" not in json.loads(first["data"])
        await tracking.receive("orders.orderPlaced.v1", order_id="o-2")
        second = await following(stream)
    await tracking.receive("payments.paymentAuthorised.v1")
    for last_id, expected in (
        (first["id"], [("o-2", "placed"), ("o-1", "paid")]),
        (second["id"], [("o-1", "paid")]),
    ):
        async with tracking.stream("/stream", last_id=last_id) as stream:
            for order_id, stage in expected:
                data = json.loads((await following(stream))["data"])
                assert (data["orderId"], data["stage"]) == (order_id, stage)


@pytest.mark.parametrize(
    "last_id", ["another-run-7", "99-placed", "0-placed", "x", "-", "9" * 5000, "0193f0c4-6a2e--1", "null"]
)
async def test_a_stream_with_an_unknown_last_id_starts_from_the_present(tracking: Tracking, last_id: str) -> None:
    await tracking.receive("orders.orderPlaced.v1")
    known = current_changes().change_id(1).rpartition("-")[0]
    for resumed in (last_id, f"{known}-{'9' * 12}", f"{known}-{last_id}"):
        async with (
            tracking.stream("/stream", last_id=resumed) as every,
            tracking.stream("/track/o-1/stream", last_id=resumed) as one,
        ):
            assert json.loads((await following(one))["data"])["stage"] == "placed"
            await tracking.receive("orders.orderPlaced.v1", order_id="o-2")
            assert json.loads((await following(every))["data"])["orderId"] == "o-2"


async def test_a_message_is_sent_again_only_when_the_stage_has_changed(tracking: Tracking) -> None:
    received: list[dict[str, Any]] = []
    async with tracking.stream("/track/o-1/stream") as stream:
        for label in (
            *DELIVERED[:3],
            "notifications.emailSent.v1",
            *DELIVERED[3:],
            "payments.paymentSettled.v1",
            "loyalty.pointsAdded.v1",
        ):
            await tracking.receive(label)
            frame = await following(stream)
            received.append({"event": frame["event"], **json.loads(frame["data"])})
    messages = [item["message"] for item in received if "message" in item]
    assert len(messages) == len(set(messages)) == len(set(STAGES))
    assert [item["event"] for item in received if "message" not in item] == ["timeline"] * (
        len(received) - len(messages)
    )
    assert len(received[-1]["timeline"]) == len(received)  # whoever looks on sees all that happened


async def test_a_message_is_not_repeated_to_a_client_that_reconnects(tracking: Tracking) -> None:
    """Because other facts arrived while it was away."""
    await tracking.receive(*DELIVERED[:3])
    async with tracking.stream("/track/o-1/stream") as stream:
        seen = await following(stream)
    for label, kind in (("notifications.emailSent.v1", "timeline"), ("kitchen.preparationStarted.v1", "order")):
        await tracking.receive(label)
        async with tracking.stream("/track/o-1/stream", last_id=seen["id"]) as stream:
            seen = await following(stream)
        assert (seen["event"], "message" in json.loads(seen["data"])) == (kind, kind == "order")


@pytest.mark.parametrize("seed", range(4))
async def test_a_message_changes_only_with_the_stage_whatever_arrives(tracking: Tracking, seed: int) -> None:
    """Late, twice, in any order, of two orders of one customer, cancelled after it was done, and while rebuilding."""
    chance = random.Random(seed)
    labels = [*DELIVERED, "orders.orderCancelled.v1", "payments.paymentRefunded.v1", "loyalty.pointsAdded.v1"]
    events = [
        (label, tracking.event(label, example(label, order_id))) for label in labels for order_id in ("o-1", "o-2")
    ] * 2
    chance.shuffle(events)
    shown: list[tuple[str, str]] = []
    async with tracking.stream("/track/o-1/stream") as stream:

        async def read() -> None:
            async for frame in stream:
                data = json.loads(frame["data"])
                if "message" in data:
                    shown.append((data["stage"], data["message"]))

        reading = asyncio.create_task(read())
        for number, (label, event) in enumerate(events):
            await tracking.raw(label, event)
            if number == len(events) // 2:
                await tracking.http.post("/rebuild")
                for _, sent in events[:number]:
                    await tracking.raw("replay.tracking", msgspec.structs.replace(sent, replayto="*"))
        await poll(lambda: shown and shown[-1][0] == "cancelled")
        reading.cancel()
        await asyncio.wait([reading])
    assert [stage for stage, _ in shown] == list(dict.fromkeys(stage for stage, _ in shown)), "no stage is shown twice"
    assert (await totals(tracking)) == {"open": 0, "done": 0, "cancelled": 2, "earnedCents": 0}
    assert (await tracking.order("o-1"))["message"] == (await tracking.order("o-2"))["message"] == shown[-1][1]


async def totals(tracking: Tracking) -> dict[str, int]:
    answer: dict[str, int] = (await tracking.http.get("/totals")).json()
    return answer


async def test_more_than_a_hundred_orders_are_counted_whatever_arrives_and_through_a_rebuild(
    tracking: Tracking,
) -> None:
    chance, sent, expected = random.Random(7), [], dict.fromkeys(("open", "done", "cancelled"), 0)
    placed, completed, cancelled = (f"orders.order{kind}.v1" for kind in ("Placed", "Completed", "Cancelled"))
    states = {"open": [placed], "done": [placed, completed], "cancelled": [placed, completed, cancelled]}
    for number in range(120):
        state = chance.choice([*states])
        expected[state] += 1
        for label in states[state]:
            event = tracking.event(label, example(label, f"o-{number}"))
            sent += [(label, event.encode())] * chance.choice([1, 1, 1, 2])
    chance.shuffle(sent)
    for label, body in sent:
        await tracking._sender.publish(label, body)
        if label == sent[len(sent) // 2][0] and body == sent[len(sent) // 2][1]:
            await tracking.broker.settle()
            await tracking.http.post("/rebuild")
    await tracking.broker.settle()
    earned = expected["done"] * example(completed)["totalCents"]
    assert await totals(tracking) == {**expected, "earnedCents": earned}
    for _, body in sent:
        await tracking._sender.publish("replay.tracking", json.dumps({**json.loads(body), "replayto": "*"}).encode())
    await tracking.broker.settle()
    await end_rebuild(tracking)
    assert await totals(tracking) == {**expected, "earnedCents": earned}


async def end_rebuild(tracking: Tracking) -> None:
    replay_id = (await tracking.http.get("/rebuild")).json()["replayId"]
    data = {"replayId": replay_id, "consumer": "tracking", "count": 1, "completedAt": timestamp(NOON)}
    await tracking.raw(COMPLETED, tracking.event(COMPLETED, {**data, "state": "completed"}))


async def test_an_order_of_which_only_the_end_is_known_has_earned_its_total(tracking: Tracking) -> None:
    await tracking.receive("orders.orderCompleted.v1")
    total = example("orders.orderCompleted.v1")["totalCents"]
    assert await totals(tracking) == {"open": 0, "done": 1, "cancelled": 0, "earnedCents": total}
    await tracking.receive("orders.orderPlaced.v1")
    assert (await tracking.order())["lines"]
    assert await totals(tracking) == {"open": 0, "done": 1, "cancelled": 0, "earnedCents": total}


async def test_an_order_that_was_dropped_is_not_counted_again(free: Ports) -> None:
    """By a replay of its events, or by a late fact that says nothing about its progress."""
    store = MemoryStore()
    async with replica(MemoryBroker(), store, free) as tracking:
        await tracking.receive("orders.orderPlaced.v1", "orders.orderCompleted.v1")
        before = await totals(tracking)
        for late in (False, True):
            store.clock.advance(31 * 86_400)  # type: ignore[attr-defined]
            assert (await tracking.http.get("/track/o-1")).status_code == 404
            if late:
                await tracking.receive("payments.paymentRefunded.v1", "loyalty.pointsAdded.v1")
            else:
                for _, body in tracking.sent[:]:
                    again = {**json.loads(body), "replayto": "*"}
                    await tracking._sender.publish("replay.tracking", json.dumps(again).encode())
                await tracking.broker.settle()
            assert await totals(tracking) == before


async def test_the_board_shows_an_order_that_has_lost_facts_in_a_rebuild(tracking: Tracking) -> None:
    """It has fewer changes than before: their number does not show that there is news."""
    await tracking.receive(*DELIVERED[:5])
    await tracking.http.post("/rebuild")
    await tracking.raw("replay.tracking", tracking.event(DELIVERED[0], {**example(DELIVERED[0]), "replayto": "*"}))
    await end_rebuild(tracking)
    await tracking.receive("orders.orderCancelled.v1")
    [shown] = (await tracking.http.get("/track")).json()["orders"]
    assert shown["stage"] == "cancelled"


async def test_the_totals_count_every_order_a_single_time(tracking: Tracking) -> None:
    for number in range(130):
        await tracking.receive("orders.orderPlaced.v1", order_id=f"o-{number}")
    for number in range(110):
        await tracking.receive("orders.orderCompleted.v1", order_id=f"o-{number}")
    await tracking.receive("orders.orderCancelled.v1", order_id="o-110")
    await tracking.receive("orders.orderCompleted.v1", order_id="o-1")  # told twice
    item = (await tracking.order("o-0"))["totalCents"]
    totals = {"open": 19, "done": 110, "cancelled": 1, "earnedCents": 110 * item}
    assert (await tracking.http.get("/totals")).json() == totals


async def test_the_totals_are_the_same_in_every_replica_and_after_a_restart(free: Ports) -> None:
    broker, store = MemoryBroker(), MemoryStore()
    async with replica(broker, store, free) as one:
        await one.receive("orders.orderPlaced.v1", order_id="o-1")
        async with replica(broker, store, free) as two:
            for number in range(2, 122):
                await two.receive("orders.orderPlaced.v1", order_id=f"o-{number}")
            await two.receive("orders.orderCompleted.v1", order_id="o-1")
            shown = [(await item.http.get("/totals")).json() for item in (one, two)]
            assert shown[0] == shown[1]
            assert (shown[0]["open"], shown[0]["done"]) == (120, 1)
    async with replica(broker, store, free) as later:
        assert (await later.http.get("/totals")).json() == shown[0]
        await later.receive("orders.orderPlaced.v1", order_id="o-1")  # known already
        assert (await later.http.get("/totals")).json() == shown[0]


async def test_a_slow_watcher_holds_no_more_than_the_latest_of_every_order() -> None:
    live = Live(most=3)
    with live.watch_all(None) as mailbox:
        for changes in range(1, 50):
            for name in "abcde":
                live.changed(tracked(name, changes))
        assert [(order.order_id, order.changes) for _, order in await mailbox.take()] == [
            ("c", 49),
            ("d", 49),
            ("e", 49),
        ]
    live.changed(tracked("f", 1))
    assert [order.order_id for order in live.latest(10)] == ["f", "e", "d"]


def tracked(order_id: str, changes: int) -> Any:
    from tracking.domain import Entry, Fact, TrackedOrder  # noqa: PLC0415

    order = TrackedOrder(order_id=order_id)
    for number in range(changes):
        order.add(Entry(id=str(number), type="a.b", version=1, time=NOON, source="a", words="It."), Fact())
    return order


async def test_a_change_that_is_older_than_what_is_known_is_no_news() -> None:
    live = Live(most=3)
    live.changed(tracked("a", 2))
    with live.watch_all(None) as mailbox:
        live.changed(tracked("a", 1))
        live.changed(tracked("a", 3), shared=True)
        assert [order.changes for _, order in await mailbox.take()] == [3]
    assert live.take_unshared() == {"a": 2}


async def test_replicas_and_a_later_start_see_what_another_replica_noted(free: Ports) -> None:
    broker, store, other = MemoryBroker(), MemoryStore(), Live(500)
    async with replica(broker, store, free) as one:
        service = Service("tracking", (), sidecar=MemorySidecar("tracking", broker, store))
        await service.start()
        await one.receive("orders.orderPlaced.v1", "payments.paymentAuthorised.v1")
        with other.watch_all(None) as mailbox:
            while not other.latest(1):
                await asyncio.sleep(0.01)  # until the first replica has shared
                await sharing.share(service, other)
            assert [(order.order_id, order.changes) for _, order in await mailbox.take()] == [("o-1", 2)]
        assert other.take_unshared() == {}
        await service.stop()


async def test_what_could_not_be_shared_is_shared_next_time() -> None:
    sidecar, live = MemorySidecar("tracking"), Live(500)
    service = Service("tracking", (), sidecar=sidecar)
    await service.start()
    await service.execute(sharing.exchange, {})
    live.changed(tracked("a", 1))
    sidecar.down = True
    with pytest.raises(SidecarUnavailable):
        await sharing.share(service, live)
    sidecar.down = False
    assert live.take_unshared() == {"a": 1}
    await service.stop()


async def test_streams_end_when_the_process_is_asked_to_stop(tracking: Tracking) -> None:
    await tracking.receive("orders.orderPlaced.v1")
    async with tracking.stream("/track/o-1/stream") as one, tracking.stream("/stream", last_id="x-1") as every:
        await following(one)
        await tracking.receive("payments.paymentAuthorised.v1")
        await following(one)
        await following(every)
        current_changes().close()
        for stream in (one, every):
            assert [frame async for frame in stream] == []


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_a_signal_to_stop_is_passed_on(number: signal.Signals) -> None:
    received: list[str] = []
    closed = asyncio.Event()
    before = signal.signal(number, lambda *_: received.append("server"))
    try:
        with at_stop(closed.set):
            os.kill(os.getpid(), number)
            await asyncio.wait_for(closed.wait(), 60)
        os.kill(os.getpid(), number)
        assert received == ["server", "server"]
    finally:
        signal.signal(number, before)


async def test_signals_are_the_main_threads() -> None:
    def elsewhere() -> None:
        with at_stop(pytest.fail):
            pass

    await asyncio.to_thread(elsewhere)


# -- rebuilding -------------------------------------------------------------------------------------------------------


async def test_the_model_is_rebuilt_by_a_replay_without_hiding_orders(tracking: Tracking) -> None:
    await tracking.receive(*DELIVERED[:5])
    before = await tracking.order()
    began = (await tracking.http.post("/rebuild")).json()
    assert (began["generation"], began["building"]) == (1, 2)
    assert await tracking.order() == before
    await poll(lambda: tracking.broker.events("archive.replayEvents.v1"))
    [asked] = tracking.broker.events("archive.replayEvents.v1")
    assert asked["data"]["consumer"] == "tracking"
    assert set(asked["data"]["types"]) >= set(DELIVERED)

    await tracking.receive("kitchen.pizzaBaked.v1")  # goes into the new generation; readers see both
    assert len((await tracking.order())["timeline"]) == 6
    for _, body in tracking.sent[:5]:
        again = {**json.loads(body), "replayto": "*"}
        await tracking._sender.publish("replay.tracking", json.dumps(again).encode())
    await tracking.broker.settle()
    rebuilt = await tracking.order()

    data = {"replayId": asked["data"]["replayId"], "consumer": "tracking", "count": 5, "completedAt": timestamp(NOON)}
    await tracking.raw(COMPLETED, tracking.event(COMPLETED, data))
    state = (await tracking.http.get("/rebuild")).json()
    assert (state["generation"], state["building"], state["replayed"]) == (2, None, 5)
    assert await tracking.order() == rebuilt
    assert [item["type"] for item in rebuilt["timeline"][:5]] == [item["type"] for item in before["timeline"]]


async def test_a_rebuild_ends_although_the_archive_never_answers(
    tracking: Tracking, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rebuilding, "settings", lambda: TrackingSettings(rebuild_timeout=0.1))
    await tracking.receive(*DELIVERED[:3])
    before = await tracking.order()
    replay_id = (await tracking.http.post("/rebuild")).json()["replayId"]
    await tracking.receive(*DELIVERED[3:5])  # events keep arriving

    async def ended() -> Any:
        state = (await tracking.http.get("/rebuild")).json()
        return state["building"] is None and state

    async with asyncio.timeout(60):
        while not (state := await ended()):  # noqa: ASYNC110 - asked over HTTP
            await asyncio.sleep(0.02)
    assert "did not report the end" in state["failed"]
    assert len((await tracking.order())["timeline"]) == len(before["timeline"]) + 2
    # What the archive says too late changes nothing, and the next rebuild is a new one.
    data = {"replayId": replay_id, "consumer": "tracking", "count": 0, "completedAt": timestamp(NOON)}
    await tracking.raw(COMPLETED, tracking.event(COMPLETED, data))
    assert len((await tracking.order())["timeline"]) == len(before["timeline"]) + 2
    assert (await tracking.http.post("/rebuild")).json()["building"] is not None


async def test_the_totals_are_right_during_a_rebuild_and_after_it_has_failed_or_ended(tracking: Tracking) -> None:
    async def counted() -> tuple[int, int]:
        totals = (await tracking.http.get("/totals")).json()
        return totals["open"], totals["done"]

    async def ends(state: str) -> None:
        replay_id = (await tracking.http.get("/rebuild")).json()["replayId"]
        data = {
            "replayId": replay_id,
            "consumer": "tracking",
            "count": 0,
            "completedAt": timestamp(NOON),
            "state": state,
        }
        await tracking.raw(COMPLETED, tracking.event(COMPLETED, data))

    async def replay(number: int) -> None:
        for _, body in history[:number]:
            again = {**json.loads(body), "replayto": "*"}
            await tracking._sender.publish("replay.tracking", json.dumps(again).encode())
        await tracking.broker.settle()

    for number in range(5):
        await tracking.receive("orders.orderPlaced.v1", order_id=f"o-{number}")
    await tracking.receive("orders.orderCompleted.v1", order_id="o-0")
    history = tracking.sent[:]
    for expected in ((4, 2), (4, 3)):  # two rebuilds fail, one after the other
        await tracking.http.post("/rebuild")
        await replay(2)
        await tracking.receive("orders.orderCompleted.v1", order_id=f"o-{expected[1] - 1}")
        await tracking.receive("orders.orderPlaced.v1", order_id=f"new-{expected[1]}")
        assert await counted() == expected
        await ends("failed")
        assert await counted() == expected
        await tracking.receive("orders.orderPlaced.v1", order_id="o-0")  # changes nothing
        assert await counted() == expected
    history = [sent for sent in tracking.sent if sent[0] in {"orders.orderPlaced.v1", "orders.orderCompleted.v1"}]
    await tracking.http.post("/rebuild")
    await replay(len(history))
    assert await counted() == (4, 3)
    await ends("completed")
    assert await counted() == (4, 3)


async def test_a_rebuild_without_a_replay_shows_that_the_former_model_is_lost(tracking: Tracking) -> None:
    await tracking.receive("orders.orderPlaced.v1")
    replay_id = (await tracking.http.post("/rebuild")).json()["replayId"]
    data = {"replayId": replay_id, "consumer": "tracking", "count": 0, "completedAt": timestamp(NOON)}
    await tracking.raw(COMPLETED, tracking.event(COMPLETED, data))
    assert (await tracking.http.get("/track/o-1")).status_code == 404


async def test_what_is_replayed_is_no_news_to_who_watches_all(tracking: Tracking) -> None:
    event = tracking.event("orders.orderPlaced.v1", example("orders.orderPlaced.v1"))
    await tracking.raw("replay.tracking", msgspec.structs.replace(event, replayto="*"))
    assert (await tracking.order())["stage"] == "placed"
    assert (await tracking.http.get("/track")).json()["orders"] == []


async def test_an_order_is_forgotten_some_weeks_after_the_last_news(free: Ports) -> None:
    store = MemoryStore()
    async with replica(MemoryBroker(), store, free) as tracking:
        await tracking.receive("orders.orderPlaced.v1")
        store.clock.advance(29 * 86_400)  # type: ignore[attr-defined]
        await tracking.receive("payments.paymentAuthorised.v1")
        store.clock.advance(29 * 86_400)  # type: ignore[attr-defined]
        assert len((await tracking.order())["timeline"]) == 2
        store.clock.advance(2 * 86_400)  # type: ignore[attr-defined]
        assert (await tracking.http.get("/track/o-1")).status_code == 404


async def test_an_order_has_a_limit_of_events_and_others_have_theirs(
    tracking: Tracking, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(model, "MOST_EVENTS", 3)
    await tracking.receive(*["kitchen.pizzaBaked.v1"] * 5)
    await tracking.receive("kitchen.pizzaBaked.v1", order_id="o-2")
    assert [len((await tracking.order(order_id))["timeline"]) for order_id in ("o-1", "o-2")] == [3, 1]
    dead = tracking.broker.events("deadletter.tracking")
    assert len(dead) == 2
    assert "order o-1 has 3 events already" in dead[0]["failurereason"]


async def test_streams_that_end_or_are_cancelled_leave_nothing_behind(tracking: Tracking) -> None:
    chance = random.Random(SEED)
    app, before = tracking.app, len(asyncio.all_tasks())

    async def watch(order_id: str) -> None:
        client = Client(chance.choice(["/stream", f"/track/{order_id}/stream"]), reads=chance.randrange(4))
        watching = asyncio.ensure_future(app(client.scope, client.receive, client.send))
        try:
            for _ in range(chance.choice([0, 5, 20, 200])):
                await asyncio.sleep(0)
            if chance.random() < 0.5:
                client.gone.set()
            else:
                watching.cancel()
            await asyncio.wait([watching])
        finally:
            watching.cancel()

    with uncollected():
        for number in numbers(-(-(ROUNDS or 600) // 10)):
            # Other orders from time to time: with each event, an order has more to send.
            order_id = f"o-{number // 20}"
            news = TO_THE_OVEN if number % 20 == 0 else ["kitchen.pizzaBaked.v1"] * chance.randrange(3)
            await asyncio.gather(tracking.receive(*news, order_id=order_id), *(watch(order_id) for _ in range(10)))
            result = current_changes()
            assert (result._mailboxes, dict(result._watched)) == (set(), {})
            assert not app.state.streams._open
    await poll(lambda: len(asyncio.all_tasks()) <= before)
