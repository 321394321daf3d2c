"""Limits: everything waits, nothing is refused, and what is delivered again takes no second turn."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import msgspec
import pytest
import yaml

from tidings.consume import policy as policies
from tidings.consume.ingress import _limiter
from tidings.consume.limits import InFlightDeduplication, KeyedLock, Limiter, TokenBucket
from tidings.consume.policy import Ordering, Policy, RateLimit, SubscriptionPolicy
from tidings.outcomes import DeadLetter, Done, Outcome, Postponed, Retry
from tidings_plan import plan, resources


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.mark.parametrize(
    ("limit", "waits"),
    [
        (RateLimit(1), [0, 1, 2, 3]),
        (RateLimit(10, burst=3), [0, 0, 0, 0.1, 0.2]),
        (RateLimit(30, per=60), [0, 2, 4]),
        (RateLimit(1, burst=0), [0, 1]),
    ],
)
def test_tokens_are_handed_out_at_the_rate_after_the_burst(limit: RateLimit, waits: list[float]) -> None:
    bucket = TokenBucket(limit, Clock())
    assert [bucket.reserve() for _ in waits] == pytest.approx(waits)


def test_idle_time_saves_no_more_than_the_burst() -> None:
    clock = Clock()
    bucket = TokenBucket(RateLimit(1, burst=2), clock)
    bucket.reserve()
    clock.now += 3600
    assert [bucket.reserve() for _ in range(3)] == [0, 0, 1]


def test_a_pause_holds_all_tokens_back() -> None:
    bucket = TokenBucket(RateLimit(100), Clock())
    bucket.pause(30)
    assert bucket.reserve() == 30


async def test_one_who_is_cancelled_takes_no_token() -> None:
    bucket = TokenBucket(RateLimit(1, per=3600))
    await bucket.acquire()
    waiting = [asyncio.create_task(bucket.acquire()) for _ in range(10)]
    await asyncio.sleep(0)
    for item in waiting:
        item.cancel()
    await asyncio.wait(waiting)
    assert bucket.remaining <= 3600


async def test_a_pause_also_holds_back_those_who_wait() -> None:
    clock = Clock()
    bucket, taken = TokenBucket(RateLimit(1000), clock), asyncio.Event()
    bucket.reserve()

    async def take() -> None:
        await bucket.acquire()
        taken.set()

    waiting = asyncio.create_task(take())
    await asyncio.sleep(0)
    bucket.pause(30)
    clock.now += 20
    await asyncio.sleep(0.01)
    assert not taken.is_set()
    waiting.cancel()


async def test_a_key_is_held_by_one_in_the_order_of_arrival_and_forgotten() -> None:
    keyed, seen = KeyedLock(), list[str]()

    async def one(key: str, number: int) -> None:
        async with keyed(key):
            seen.append(f"{key}{number}+")
            await asyncio.sleep(0)
            seen.append(f"{key}{number}-")

    await asyncio.gather(*(one(key, number) for number in range(3) for key in "ab"))
    for key in "ab":
        own = [item[1:] for item in seen if item[0] == key]
        assert own == ["0+", "0-", "1+", "1-", "2+", "2-"]
    assert seen[:2] == ["a0+", "b0+"]  # other keys do not wait
    assert not keyed._locks


async def test_one_that_waits_for_its_key_takes_no_slot() -> None:
    limiter = Limiter(2, None, ordered=True)
    async with limiter("a"):
        waiting = asyncio.create_task(_enter(limiter, "a"))
        await asyncio.sleep(0)
        await asyncio.wait_for(_enter(limiter, "b"), 60)
        assert not waiting.done()
    await waiting


async def test_who_is_broken_off_leaves_its_place() -> None:
    limiter = Limiter(1, None, ordered=True)
    async with limiter("a"):
        waiting = asyncio.create_task(_enter(limiter, "a"))
        await asyncio.sleep(0)
        waiting.cancel()
        await asyncio.wait([waiting])
    await asyncio.wait_for(_enter(limiter, "a"), 60)


async def _enter(limiter: Limiter, key: str) -> None:
    async with limiter(key):
        pass


class Handling:
    """A handler that returns when it is released."""

    def __init__(self) -> None:
        self.calls = 0
        self.outcome: asyncio.Future[Outcome] = asyncio.get_running_loop().create_future()

    async def __call__(self) -> Outcome:
        self.calls += 1
        return await self.outcome


@pytest.mark.parametrize("outcome", [Done(), Retry("not now"), DeadLetter("never"), Postponed("store away")])
async def test_what_comes_again_while_it_waits_shares_the_outcome(outcome: Outcome) -> None:
    deduplicate, handling = InFlightDeduplication(), Handling()
    deliveries = [asyncio.create_task(deduplicate("s/1", handling)) for _ in range(3)]
    await asyncio.sleep(0)
    handling.outcome.set_result(outcome)
    assert await asyncio.gather(*deliveries) == [outcome] * 3
    assert handling.calls == 1
    assert not deduplicate._in_flight


@pytest.mark.parametrize(("outcome", "calls"), [(Done(), 1), (Retry("not now"), 2), (Postponed("away"), 2)])
async def test_what_comes_after_it_was_handled_is_done(outcome: Outcome, calls: int) -> None:
    deduplicate, handling = InFlightDeduplication(), Handling()
    handling.outcome.set_result(outcome)
    assert await deduplicate("s/1", handling) == outcome
    await deduplicate("s/1", handling)
    assert handling.calls == calls


async def test_events_without_deduplication_are_handled_repeatedly() -> None:
    deduplicate, handling = InFlightDeduplication(), Handling()
    handling.outcome.set_result(Done())
    await deduplicate(None, handling)
    await deduplicate(None, handling)
    assert handling.calls == 2


async def test_a_delivery_that_is_broken_off_is_no_success_for_its_twin() -> None:
    deduplicate, handling = InFlightDeduplication(), Handling()
    first = asyncio.create_task(deduplicate("s/1", handling))
    await asyncio.sleep(0)
    twin = asyncio.create_task(deduplicate("s/1", handling))
    await asyncio.sleep(0)
    first.cancel()
    assert isinstance(await twin, Postponed)


async def test_cancelling_one_duplicate_does_not_cancel_another() -> None:
    deduplicate, handling = InFlightDeduplication(), Handling()
    first = asyncio.create_task(deduplicate("s/1", handling))
    await asyncio.sleep(0)
    twin = asyncio.create_task(deduplicate("s/1", handling))
    await asyncio.sleep(0)
    twin.cancel()
    await asyncio.wait([twin])
    handling.outcome.set_result(Done())
    assert await first == Done()


async def test_memory_of_what_was_handled_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tidings.consume.limits._MAX_HANDLED", 3)
    deduplicate, handling = InFlightDeduplication(), Handling()
    handling.outcome.set_result(Done())
    for number in range(10):
        await deduplicate(f"s/{number}", handling)
    assert list(deduplicate._handled) == ["s/7", "s/8", "s/9"]


CONTRACT = """
apiVersion: tidings.dev/v1alpha1
kind: EventType
metadata: {name: shop-item-sold}
spec:
  type: shop.itemSold
  owner: {team: tests}
  producers: [shop]
  versions: [{name: v1, schema: {type: object}, examples: [{}]}]
---
apiVersion: tidings.dev/v1alpha1
kind: EventSubscription
metadata: {name: till-item-sold}
spec:
  events:
    - {type: shop.itemSold, versions: [v1]}
  consumer: {appId: till}
"""


@pytest.mark.parametrize(
    ("spec", "kept"),
    [
        ({"maxConcurrency": 3}, {"max_concurrency": 3}),
        ({"rateLimit": {"eventsPerSecond": 0.5, "burst": 4}}, {"rate_limit": RateLimit(0.5, 1.0, 4)}),
        ({"ordering": {"mode": "Key"}}, {"ordering": Ordering("key", "subject")}),
        ({"ordering": {"mode": "Key", "key": "correlationid"}}, {"ordering": Ordering("key", "correlationid")}),
        ({}, {}),
    ],
)
def test_limits_in_yaml_reach_the_limiter(spec: dict[str, Any], kept: dict[str, Any], tmp_path: Path) -> None:
    """All the way: YAML, plan, the policy file that the SDK reads, the limiter that the ingress makes of it."""
    documents = list(yaml.safe_load_all(CONTRACT))
    documents[1]["spec"] |= spec
    (tmp_path / "contracts.yaml").write_text(yaml.safe_dump_all(documents))
    file = tmp_path / "policy.json"
    file.write_bytes(msgspec.json.encode(plan(resources.load([tmp_path])).apps["till"].policy))
    read: Policy = policies.read(file)
    (subscription,) = read.subscriptions
    defaults = SubscriptionPolicy("", "", "")
    for name in ("max_concurrency", "rate_limit", "ordering"):
        assert getattr(subscription, name) == kept.get(name, getattr(defaults, name))
    limiter = _limiter(subscription)
    assert (limiter._concurrency is not None, limiter._bucket is not None, limiter._key_locks is not None) == (
        "maxConcurrency" in spec,
        "rateLimit" in spec,
        "ordering" in spec,
    )
