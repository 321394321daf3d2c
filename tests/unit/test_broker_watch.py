"""Reactions to a broker that has lost data: reports, and sidecars that must resubscribe."""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Mapping
from contextlib import nullcontext

import pytest
from kafka import TopicPartition  # type: ignore[import-untyped]  # it has no types
from kafka.errors import CoordinatorLoadInProgressError, NotCoordinatorError  # type: ignore[import-untyped]

from tidings.brokers import kafka
from tidings.brokers import watch as brokerwatch
from tidings.brokers.kafka import TopicError
from tidings.brokers.positions import Key, Position
from tidings.brokers.watch import GRACE, BrokerWatch, Observation

READ, OTHER = ("kitchen", "orders.orderPlaced.v1"), ("menu", "orders.orderPlaced.v1")


class Clock:
    now = 1000.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(brokerwatch, "time", clock)
    return clock


def positions(ids: Mapping[str, str]) -> dict[Key, Position]:
    return {(topic, 0): Position(0, 5, (5,), identity) for topic, identity in ids.items()}


def watch() -> BrokerWatch:
    return BrokerWatch("nats", "nats://127.0.0.1:1", [], [], {})


def test_problems_are_described_in_words() -> None:
    assert Observation().problem == ""
    problem = Observation(("a.b.v1",), (READ,), gaps=("c.d.v1", "e.f.v1")).problem
    assert problem == (
        "lost a.b.v1; unhandled events of c.d.v1, e.f.v1 are gone; nothing reads orders.orderPlaced.v1 for kitchen"
    )


def test_a_consumer_without_a_sidecar_gets_a_grace_period_that_grows(clock: Clock) -> None:
    result, looked = Observation(unread=(READ,)), watch()
    restarts = []
    for second in range(0, 200, 2):
        clock.now = 1000.0 + second
        if looked.to_reopen(result):
            restarts.append(second)
    assert restarts == [GRACE + 2, 3 * GRACE + 4, 7 * GRACE + 6]
    assert looked.to_reopen(Observation()) == set()
    clock.now += 1000
    assert looked.to_reopen(result) == set()  # it was read meanwhile: the time begins anew


def test_a_lost_stream_needs_no_waiting_and_an_app_that_is_away_no_restart(clock: Clock) -> None:
    assert clock.now
    result = Observation(("orders.orderPlaced.v1",), (READ, OTHER))
    assert watch().to_reopen(result) == {"kitchen", "menu"}
    assert watch().to_reopen(result, ["menu"]) == {"menu"}


def test_a_later_watch_goes_on_where_an_earlier_one_was(clock: Clock) -> None:
    first, second = watch(), watch()
    assert first.to_reopen(Observation(unread=(READ,))) == set()
    clock.now += GRACE + 1
    second.resume(first)
    assert second.to_reopen(Observation(unread=(READ,))) == {"kitchen"}


def test_a_queue_with_more_consumers_than_sidecars_is_read_again_after_a_restart(
    clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """daprd may leave a consumer behind that it does not know of; its share of the messages waits there."""
    consumers = {READ: 2, OTHER: 1}
    monkeypatch.setattr(brokerwatch, "queue_consumers", lambda *_: consumers)
    monkeypatch.setattr(brokerwatch, "ensure_queues", lambda *_: [])
    watched = BrokerWatch("rabbitmq", "amqp://localhost", [], [], {}, sidecars=1)
    completed = asyncio.run(watched.look())
    assert completed == Observation(orphaned=(READ,))
    assert completed.problem == "an orphaned consumer holds messages of orders.orderPlaced.v1 for kitchen"
    assert watched.to_reopen(completed) == set()
    clock.now += GRACE + 1
    assert watched.to_reopen(completed) == {"kitchen"}
    unknown = BrokerWatch("rabbitmq", "amqp://localhost", [], [], {})
    assert asyncio.run(unknown.look()) == Observation(), "the number of sidecars is unknown"


def test_a_kafka_topic_with_another_id_is_read_again_after_a_restart_of_its_readers_sidecars(
    clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also one that somebody else has created again before the watch looks, and of an app that is away at first."""
    topic, ids = READ[1], {READ[1]: "1", "a.b.v1": "1"}
    monkeypatch.setattr(brokerwatch, "ensure_topics", lambda *_, **__: [])
    monkeypatch.setattr(kafka, "positions", lambda *_: positions(ids))
    readers = [(app, {"spec": {"topic": topic}}) for app in ("kitchen", "menu")] + [
        ("x", {"spec": {"topic": "a.b.v1"}})
    ]
    first = BrokerWatch("kafka", "kafka://127.0.0.1:1", list(ids), readers)
    assert asyncio.run(first.look()) == Observation()
    ids[topic] = "2"
    watched = BrokerWatch("kafka", "kafka://127.0.0.1:1", list(ids), readers)
    watched.resume(first)
    completed = asyncio.run(watched.look())
    assert completed == Observation((topic,), (READ, OTHER))
    assert watched.to_reopen(completed, ["kitchen", "x"]) == {"kitchen"}
    later = asyncio.run(watched.look())
    assert later == Observation(unread=(OTHER,))
    assert watched.to_reopen(later, ["kitchen", "menu", "x"]) == set()
    clock.now += GRACE + 1
    assert watched.to_reopen(later, ["kitchen", "menu", "x"]) == {"menu"}
    assert asyncio.run(watched.look()) == Observation()


@pytest.mark.parametrize("error", [NotCoordinatorError, CoordinatorLoadInProgressError])
def test_topics_are_looked_at_while_kafka_loads_its_groups(
    error: type[Exception], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A system that starts together with its Kafka would not start otherwise."""

    def committed(*_: object) -> dict[str, int]:
        raise error

    monkeypatch.setattr(kafka, "_connected", nullcontext)
    monkeypatch.setattr(kafka, "_existing", lambda *_: [{"name": READ[1], "topic_id": "1"}])
    monkeypatch.setattr(kafka, "_offsets", lambda *_: {TopicPartition(READ[1], 0): (2, 7)})
    monkeypatch.setattr(kafka, "_committed", committed)
    assert kafka.positions("kafka://x", [READ[1]], [READ]) == {(READ[1], 0): Position(2, 7, (2,), "1")}


def test_a_system_starts_although_the_positions_of_its_topics_are_not_known_yet(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    found: dict[Key, Position] = {}

    def of_topics(*_: object) -> dict[Key, Position]:
        if not found:
            raise TopicError("no leader yet")
        return found

    monkeypatch.setattr(brokerwatch, "ensure_topics", lambda *_, **__: [])
    monkeypatch.setattr(kafka, "positions", of_topics)
    watched = BrokerWatch("kafka", "kafka://127.0.0.1:1", [READ[1]], [])
    assert asyncio.run(watched.ensure()) == []
    with pytest.raises(TopicError):
        asyncio.run(watched.look())
    found |= positions({READ[1]: "1"})
    assert asyncio.run(watched.look()) == Observation()


def test_a_kafka_topic_that_had_to_be_created_was_lost(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(brokerwatch, "ensure_topics", lambda *_, **__: [READ[1]])
    monkeypatch.setattr(kafka, "positions", lambda *_: positions({READ[1]: "1"}))
    watched = BrokerWatch("kafka", "kafka://127.0.0.1:1", [READ[1]], [("kitchen", {"spec": {"topic": READ[1]}})])
    assert asyncio.run(watched.look()) == Observation((READ[1],), (READ,))


@pytest.mark.parametrize(
    ("kind", "module", "waiting"),
    [
        ("nats", "jetstream", {("orders_orderPlaced_v1", "kitchen"): 2, ("orders_orderPlaced_v1", "menu"): 0}),
        ("rabbitmq", "rabbitmq", {(READ[1], "kitchen"): 2}),
        ("kafka", "kafka", {(READ[1], "kitchen"): 2, ("a.b.v1", "somebody"): 4}),
        ("redis", "redis", {(READ[1], "kitchen"): 2, (READ[1], "somebody"): 4}),
    ],
)
def test_the_waiting_events_are_counted_by_app(
    kind: str, module: str, waiting: dict[tuple[str, str], int], monkeypatch: pytest.MonkeyPatch
) -> None:
    async def pending(*_: object) -> dict[tuple[str, str], int]:
        return waiting

    counted = pending if module == "jetstream" else lambda *_: waiting
    monkeypatch.setattr(getattr(brokerwatch, module), "pending", counted)
    # A topic may be read through several components, which share its consumer.
    readers = [(app, {"spec": {"topic": READ[1], "pubsubname": name}}) for app, name in
               (("kitchen", "pubsub"), ("kitchen", "pubsub-1"), ("menu", "pubsub"))]  # fmt: skip
    watched = BrokerWatch(kind, "x://127.0.0.1:1", [READ[1]], readers)
    assert watched.lag(asyncio.run(watched.pending())) == {"kitchen": 2}


@pytest.mark.parametrize(
    ("kind", "module"), [("nats", "jetstream"), ("rabbitmq", "rabbitmq"), ("kafka", "kafka"), ("redis", "redis")]
)
def test_a_dead_letter_is_unread_until_one_app_has_read_it(
    kind: str, module: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def stored(_: str, topics: Collection[str]) -> dict[str, int]:
        return dict.fromkeys({*topics} - {"deadletter.absent"}, 7)

    counted = stored if module == "jetstream" else lambda url, topics: asyncio.run(stored(url, topics))
    monkeypatch.setattr(getattr(brokerwatch, module), "stored", counted)
    topics = ["deadletter.read", "deadletter.late", "deadletter.unread", "deadletter.absent", "a.b.v1"]
    pending = {("deadletter.read", "archive"): 0, ("deadletter.read", "stopped"): 5, ("deadletter.late", "archive"): 3}
    if kind == "nats":
        pending = {(topic.replace(".", "_"), app): count for (topic, app), count in pending.items()}
    unread = asyncio.run(BrokerWatch(kind, "x://127.0.0.1:1", topics, []).unread_dead_letters(pending))
    assert unread == {"deadletter.read": 0, "deadletter.late": 3, "deadletter.unread": 7, "deadletter.absent": 0}
