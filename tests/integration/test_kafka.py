"""Kafka: topics of three partitions, order per subject, a rebalance while events flow, and the lag of a group."""

from __future__ import annotations

import asyncio
import base64
import json
from collections import defaultdict
from itertools import pairwise
from typing import Any

import pytest
from tests.conformance import event, poll, unique
from tests.integration.test_app_away import SETS, Reader, planned
from tests.support.brokers import values_of

from tidings.brokers.components import render
from tidings.brokers.kafka import RefusedTopics, TopicError, ensure_topics, pending, stored
from tidings.dapr.client import DaprSidecar
from tidings.messages.envelope import new_id
from tidings_cli.testing.fixtures import Serve, StartDaprd
from tidings_plan.resources.brokers import PARALLEL, parallel

pytestmark = [pytest.mark.real, pytest.mark.timeout(300)]
SUBJECTS = 12
ROUNDS = 20


class Ordered:
    """An app that notes the number of each event it is sent, by subject, and can hold its answers back."""

    def __init__(self) -> None:
        self.seen: dict[str, list[int]] = defaultdict(list)
        self.may_answer = asyncio.Event()
        self.may_answer.set()

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        body, more = b"", True
        while more:
            message = await receive()
            body, more = body + message.get("body", b""), message.get("more_body", False)
        entries = json.loads(body)["entries"] if scope["path"].startswith("/events/") else []
        if entries:
            await self.may_answer.wait()
        for entry in entries:
            result = json.loads(base64.b64decode(entry["event"]))
            self.seen[result["subject"]].append(int(result["data"]["number"]))
        statuses = [{"entryId": element["entryId"], "status": "SUCCESS"} for element in entries]
        answer = json.dumps({"statuses": statuses} if statuses else []).encode()
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-type", b"application/json")]})
        await send({"type": "http.response.body", "body": answer})

    @property
    def complete(self) -> bool:
        return len(self.seen) == SUBJECTS and all(set(element) == set(range(ROUNDS)) for element in self.seen.values())


def first_sight(numbers: list[int]) -> list[int]:
    """Return the numbers in the order in which each came first: a rebalance may repeat some."""
    return list(dict.fromkeys(numbers))


async def reader(kafka: str, daprd: StartDaprd, serve: Serve, *apps: Ordered) -> tuple[str, str, list[Any]]:
    """Start a sidecar for each copy of an app that reads one topic; gives its id, the topic, and the sidecars."""
    app, [result] = unique("reader").replace(".", "-"), render(SETS / "kafka", values_of("kafka", kafka))
    components = parallel(result)
    topic = f"shop.item{new_id()[-6:]}Sold.v1"
    subscriptions = planned(app, [topic], components)
    topics = [*(element["spec"]["topic"] for element in subscriptions), f"deadletter.{app}"]
    await asyncio.to_thread(ensure_topics, kafka, topics, partitions=3)
    ports = [(await serve(element)).port for element in apps]
    return (
        app,
        topic,
        [await daprd(app, resources=[*components, *subscriptions], app_port=element) for element in ports],
    )


async def publish_round(sidecar: DaprSidecar, topic: str, number: int) -> None:
    """Publish the next event of each subject, in one call."""
    events = [event(subject=f"order-{element}", data={"number": number}).encode() for element in range(SUBJECTS)]
    assert await sidecar.publish_many(topic, events) == [None] * SUBJECTS


async def test_the_events_of_a_subject_stay_in_order_over_three_partitions(
    kafka: str, daprd: StartDaprd, serve: Serve
) -> None:
    app = Ordered()
    name, topic, [process] = await reader(kafka, daprd, serve, app)
    sidecar = DaprSidecar(process.address)
    for number in range(ROUNDS):
        await publish_round(sidecar, topic, number)
    await poll(lambda: app.complete)
    assert {subject: first_sight(seen) for subject, seen in app.seen.items()} == {
        subject: list(range(ROUNDS)) for subject in app.seen
    }
    await poll(lambda: pending(kafka, [(name, topic)]) == {(topic, name): 0})
    await sidecar.close()


async def test_a_rebalance_while_events_flow_loses_nothing_and_keeps_every_subjects_order(
    kafka: str, daprd: StartDaprd, serve: Serve
) -> None:
    """One of two sidecars of an app is killed midway: the other takes its partitions over."""
    staying, leaving = Ordered(), Ordered()
    _, topic, [first, second] = await reader(kafka, daprd, serve, staying, leaving)
    sidecar = DaprSidecar(first.address)
    async with asyncio.timeout(120):
        while not (staying.seen and leaving.seen):  # each has its partitions
            await publish_round(sidecar, topic, 0)
            await asyncio.sleep(0.2)
    for number in range(ROUNDS):
        await publish_round(sidecar, topic, number)
        if number == ROUNDS // 2:
            second.kill()
    whole: dict[str, list[int]] = {}

    def complete() -> bool:
        whole.update({f"order-{element}": leaving.seen[f"order-{element}"] + staying.seen[f"order-{element}"]
                      for element in range(SUBJECTS)})  # fmt: skip
        return all(set(element) == set(range(ROUNDS)) for element in whole.values())

    await poll(complete, patience=120)
    for seen in (staying.seen, leaving.seen):
        assert all(one < other for numbers in seen.values() for one, other in pairwise(first_sight(numbers)))
    await sidecar.close()


async def test_topics_read_through_separate_components_do_not_delay_other_topics(
    kafka: str, daprd: StartDaprd, serve: Serve
) -> None:
    """A component delivers to one topic at a time; those of an app are members of one group."""
    slow, quick, name = Reader(), Reader(), unique("reader").replace(".", "-")
    may_answer, run = asyncio.Event(), new_id()[-6:]

    async def app(scope: Any, receive: Any, send: Any) -> None:
        if scope["path"].startswith("/events/") and "slow" in scope["path"]:
            await may_answer.wait()
            await slow(scope, receive, send)
        else:
            await quick(scope, receive, send)

    [result] = render(SETS / "kafka", values_of("kafka", kafka))
    result["metadata"]["annotations"] = {PARALLEL: "4"}
    components = parallel(result)
    topics = [f"shop.slow{run}Sold.v1", f"shop.quick{run}Sold.v1"]
    subscriptions = planned(name, topics, components)
    assert len({element["spec"]["pubsubname"] for element in subscriptions} - {"pubsub"}) == 3, "and one for replays"
    await asyncio.to_thread(
        ensure_topics, kafka, [*(element["spec"]["topic"] for element in subscriptions), f"deadletter.{name}"]
    )
    process = await daprd(name, resources=[*components, *subscriptions], app_port=(await serve(app)).port)
    sidecar = DaprSidecar(process.address)
    await sidecar.publish(topics[0], event(id="slow").encode())
    ids = [f"quick-{number}" for number in range(20)]
    for element in ids:
        await sidecar.publish(topics[1], event(id=element).encode())
    await poll(lambda: quick.seen.keys() >= set(ids))
    assert not slow.seen
    may_answer.set()
    await poll(lambda: slow.seen.keys() >= {"slow"})
    await poll(lambda: not any(pending(kafka, [(name, topic) for topic in topics]).values()))
    await sidecar.close()


async def test_the_lag_of_a_group_is_what_it_has_not_acknowledged(kafka: str, daprd: StartDaprd, serve: Serve) -> None:
    app = Ordered()
    app.may_answer.clear()
    name, topic, [process] = await reader(kafka, daprd, serve, app)
    sidecar = DaprSidecar(process.address)
    await publish_round(sidecar, topic, 0)
    assert await asyncio.to_thread(pending, kafka, [(name, topic), ("nobody", topic), (name, "no.such.v1")]) == {
        (topic, name): SUBJECTS,
        (topic, "nobody"): SUBJECTS,
    }
    assert await asyncio.to_thread(stored, kafka, [topic, "no.such.v1"]) == {topic: SUBJECTS}
    app.may_answer.set()
    await poll(lambda: pending(kafka, [(name, topic)]) == {(topic, name): 0})
    await sidecar.close()


def test_topics_are_created_once_and_a_refused_one_affects_no_other(kafka: str) -> None:
    good = f"shop.item{new_id()[-6:]}Sold.v1"
    with pytest.raises(RefusedTopics, match="a/b") as refused:
        ensure_topics(kafka, [good, "a/b"])
    assert refused.value.topics == {"a/b"}
    assert ensure_topics(kafka, [good]) == []


def test_a_kafka_that_is_away_is_an_error_that_names_its_address() -> None:
    with pytest.raises(TopicError, match=r"127\.0\.0\.1:1 .*is it running"):
        ensure_topics("kafka://127.0.0.1:1", ["a.b.v1"])
