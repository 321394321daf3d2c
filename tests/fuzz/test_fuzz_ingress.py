"""A long series of malformed events through the twin: each has exactly one outcome, and none is lost.

`make fuzz` delivers a million; `make test` some thousands. A failure names its seed: `FUZZ_SEED=… pytest tests/fuzz`.
"""

from __future__ import annotations

import asyncio
import json
import os
import random
from dataclasses import dataclass
from typing import Any

import msgspec
import pytest
from tests.fuzz.mutating import corpus, mutate, raw_corpus

from tidings import Drop, Event, Handlers, Rejected, Retry, Service, StateContext, event
from tidings.consume.policy import Policy, RetryPolicy, SubscriptionPolicy
from tidings.errors import MalformedEvent, PublishRefused, StateRefused
from tidings.messages.envelope import MAX_ATTRIBUTE, UNREADABLE, Envelope, decode, salvage
from tidings.observability import logs
from tidings.outcomes import DeadLetter
from tidings.testing import MemoryBroker, MemorySidecar, post

DELIVERIES = int(os.environ.get("FUZZ_DELIVERIES", "20000"))
SEED = int(os.environ.get("FUZZ_SEED", "20261129"))
WORKERS = 2
BATCH = 1_000  # events until broker and service are made anew: the twin keeps everything that it has seen
TOPIC = "shop.itemSold.v1"
PATH = f"/events/{TOPIC}"
BULK = {"id": "b", "metadata": {}, "pubsubname": "pubsub", "topic": TOPIC, "type": "com.dapr.event.sent.bulk"}
RAW = raw_corpus()
PLAIN = {
    "id": "e-1", "source": "test", "type": "shop.itemSold", "specversion": "1.0", "version": "1", "subject": "pie",
    "time": "2026-11-28T10:00:00Z", "datacontenttype": "application/json", "data": {"item": "pie", "count": 3},
}  # fmt: skip
RAISED: list[BaseException] = [
    ValueError("odd"), SystemExit(1), GeneratorExit(), asyncio.CancelledError(), RecursionError(), Rejected("no"),
    ExceptionGroup("several", [ValueError("a")]), StateRefused("key"), PublishRefused("forbidden"), MemoryError(),
]  # fmt: skip


@event("shop.itemSold")
class Sold(Event):
    item: str | None = None
    count: int | None = None


class Shelf(Event):
    count: int = 0


@dataclass
class Shop:
    """A service behind the twin; its handler saves, publishes, refuses and raises, by turns."""

    broker: MemoryBroker
    service: Service
    handled: int = 0
    calls: int = 0


def shop() -> Shop:
    broker, handlers = MemoryBroker(), Handlers()
    sidecar = MemorySidecar("shop", broker)
    retry = RetryPolicy(max_retries=1)
    policy = Policy("shop", (SubscriptionPolicy("sales", "shop.itemSold", PATH, topic=TOPIC, retry=retry),))
    made = Shop(broker, Service("shop", handlers, sidecar=sidecar, policy=policy))

    @handlers.on(Sold, deduplicate=False)
    async def handle(sold: Sold, context: StateContext) -> Any:
        made.calls += 1
        turn = made.calls % 16
        if turn < len(RAISED) // 2:
            raise RAISED[made.calls // 16 % len(RAISED)]
        if turn == 14:
            return Retry("not now") if made.calls // 16 % 2 else DeadLetter("\0" * 3_000)
        if turn == 15:
            shelf = await context.load(Shelf, str(sold.item)) or Shelf()
            context.save(str(sold.item), Shelf(count=shelf.count + 1))
        made.handled += 1
        return Drop("not wanted") if turn == 13 else None

    spec = {"pubsubname": "pubsub", "topic": TOPIC, "routes": {"default": PATH}, "deadLetterTopic": "deadletter.shop"}
    policies = {
        "policies": {"retries": {"r": {"policy": "constant", "duration": "0s", "maxRetries": 8}}},
        "targets": {"components": {"pubsub": {"inbound": {"retry": "r"}}}},
    }
    broker.attach("shop", made.service.ingress, [{"spec": spec}], resiliency={"spec": policies})
    return made


async def deliver_batch(chance: random.Random, bases: list[dict[str, Any]], size: int) -> int:
    made = shop()
    await made.service.start()
    bodies = [mutate(chance.choice(bases), chance) for _ in range(size)]
    bodies[: len(RAW)] = RAW
    if chance.random() < 0.5:
        for body in bodies:
            made.broker.publish(TOPIC, body)
        await made.broker.settle()
    else:
        await deliver_straight(made, bodies, chance)
    await made.service.stop()
    letters = [message for _, message in made.broker._kept["deadletter.shop"]]
    assert made.handled + len(letters) == size
    assert made.broker.stuck() == []
    for letter in letters:
        check(letter)
    return size


async def deliver_straight(made: Shop, bodies: list[bytes], chance: random.Random) -> None:
    """Deliver as no sidecar would: also what daprd cannot read, and many at once, each until it has its outcome."""
    waiting = list(bodies)
    while waiting:
        taken = [waiting.pop() for _ in range(min(len(waiting), chance.choice([1, 1, 1, 5])))]
        together = [item for item in taken if len(taken) > 1 and is_json(item)]
        for body in taken if not together else [item for item in taken if not is_json(item)]:
            await insist(made, body)
        if together:
            await insist_on_many(made, together)


async def insist_on_many(made: Shop, bodies: list[bytes]) -> None:
    left = dict(enumerate(bodies))
    for _ in range(6):
        entries = b",".join(b'{"entryId":"%d","event":%s}' % pair for pair in left.items())
        delivery = b'{"entries":[' + entries + b"]," + json.dumps(BULK)[1:].encode()
        _, answer = await post(made.service.ingress, PATH, delivery)
        statuses = {int(status["entryId"]): status["status"] for status in json.loads(answer)["statuses"]}
        assert statuses.keys() == left.keys()
        left = {number: body for number, body in left.items() if statuses[number] != "SUCCESS"}
        if not left:
            return
    raise AssertionError(f"no outcome after six attempts: {left}")


def is_json(body: bytes) -> bool:
    try:
        msgspec.json.decode(body)
    except UNREADABLE:
        return False
    return True


async def insist(made: Shop, body: bytes) -> None:
    for _ in range(6):
        status, _ = await post(made.service.ingress, PATH, body)
        assert status in (200, 503)
        if status == 200:
            return
    raise AssertionError(f"no outcome after six attempts: {body[:200]!r}")


def check(letter: bytes) -> None:
    """Check that the SDK's dead letters are events with a reason, and that the sidecar's are what was sent."""
    envelope = read_or_salvage(letter)
    assert not envelope.originalid or (envelope.failurereason and envelope.id != envelope.originalid)


def read_or_salvage(body: bytes) -> Envelope:
    try:
        return decode(body)
    except MalformedEvent as error:
        return salvage(body, str(error))


@pytest.mark.parametrize("worker", range(WORKERS))
@pytest.mark.timeout(3_600)
async def test_every_odd_event_has_one_outcome(worker: int) -> None:
    logs.configure("shop", "json", "CRITICAL")
    seed = SEED + worker
    chance = random.Random(seed)
    bases = [PLAIN, *({**corpu, "type": "shop.itemSold"} for corpu in corpus()), *corpus()]
    bases += [PLAIN] * len(bases)
    sent = 0
    while sent < DELIVERIES // WORKERS:
        try:
            sent += await deliver_batch(chance, bases, BATCH)
        except BaseException as error:
            error.add_note(f"FUZZ_SEED={SEED}, worker {worker}, after {sent} events")
            raise
    assert sent >= DELIVERIES // WORKERS


@pytest.mark.parametrize("worker", range(WORKERS))
@pytest.mark.timeout(3_600)
def test_any_bytes_are_an_event_or_malformed(worker: int) -> None:
    chance = random.Random(SEED + worker)
    bases = [PLAIN, *corpus()]
    for _ in range(DELIVERIES // WORKERS):
        body = mutate(chance.choice(bases), chance)
        envelope = read_or_salvage(body)
        assert envelope.id
        assert len(envelope.failurereason) <= MAX_ATTRIBUTE
        assert len(envelope.identity) < 250
        if not envelope.failurereason:
            assert decode(envelope.encode()) == envelope
