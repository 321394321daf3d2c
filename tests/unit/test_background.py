"""Background work that fails is restarted, whatever it raises; nothing is lost, and the process survives."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from prometheus_client import REGISTRY
from tests.conformance import poll
from tests.conformance.shop import PATH, counted
from tests.conformance.worlds import TableWorld, World

from tidings import Context, Service
from tidings.background import restart_on_failure
from tidings.consume.limits import TokenBucket
from tidings.consume.policy import Policy, RateLimit, SubscriptionPolicy
from tidings.consume.scheduling import Scheduler
from tidings.errors import BackgroundFailure, ProcessEnd
from tidings.outbox.lanes import Lanes
from tidings.outbox.table_lease import Lease
from tidings.testing import MemorySidecar

ERRORS: list[BaseException] = [
    ZeroDivisionError(), SystemExit(3), KeyboardInterrupt(), GeneratorExit(), asyncio.CancelledError(),
    BaseExceptionGroup("several", [SystemExit(1)]),
]  # fmt: skip
SUCCESS = b'{"status":"SUCCESS"}'


@pytest.fixture(params=ERRORS, ids=lambda error: type(error).__name__)
def error(request: pytest.FixtureRequest) -> BaseException:
    param: BaseException = request.param
    return param


@pytest.fixture(params=["log", "table"])
def world(request: pytest.FixtureRequest, tmp_path: Path) -> World:
    return World() if request.param == "log" else TableWorld(f"sqlite:///{tmp_path / 'shop.db'}")


def fail_first(patch: pytest.MonkeyPatch, owner: type, name: str, error: BaseException, times: int = 2) -> list[int]:
    """Let the first calls of a method raise; the list grows by one with each call."""
    method: Callable[..., Any] = getattr(owner, name)
    calls: list[int] = []

    async def failing(*provided: Any, **named: Any) -> Any:
        calls.append(len(calls))
        if len(calls) <= times:
            raise error
        return await method(*provided, **named)

    patch.setattr(owner, name, failing)
    return calls


def failures() -> float:
    result = [metric for metric in REGISTRY.collect() if metric.name == "tidings_background_failures"]
    return sum(sample.value for sample in result[0].samples if sample.name.endswith("_total"))


@pytest.mark.parametrize("method", ["publish", "publish_many"])
async def test_a_relay_that_fails_restarts_and_publishes(
    world: World, error: BaseException, method: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = fail_first(monkeypatch, MemorySidecar, method, error)
    causes = [counted("apple", number) for number in range(8)]
    async with world.process() as process:
        assert all(await asyncio.gather(*(process.deliver(cause) for cause in causes)))
        await world.until_published(causes)
        await process.published_all()
    assert len(calls) > 2 or method == "publish_many"


async def test_a_lease_is_kept_after_a_failure(
    world: World, error: BaseException, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tidings.outbox.table_lease.LEASE", 0.1)
    monkeypatch.setattr("tidings.outbox.lanes.LEASE", 0.1)
    before = failures()
    owner, name = (Lease, "prune_inbox") if isinstance(world, TableWorld) else (Lanes, "_renew")
    calls = fail_first(monkeypatch, owner, name, error)
    async with world.process():
        await poll(lambda: len(calls) > 3)
    assert failures() == before + 2


async def test_a_scheduled_message_is_handled_after_a_failure(
    world: World, error: BaseException, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = fail_first(monkeypatch, Scheduler, "deliver", error)
    async with world.process() as process:
        due = b'{"id":"1","source":"shop","type":"shop.nobodyTakesThis","specversion":"1.0","version":"1"}'
        assert await process.service._runner.schedule(due, 0.0, "shop")  # type: ignore[arg-type] # raw JSON
        await poll(lambda: len(calls) == 3)
        await poll(lambda: world.broker.events("deadletter.shop"))


async def test_a_limiter_that_fails_is_an_outcome(error: BaseException, monkeypatch: pytest.MonkeyPatch) -> None:
    calls = fail_first(monkeypatch, TokenBucket, "acquire", error)
    limited = SubscriptionPolicy("limited", "shop.itemCounted", PATH, rate_limit=RateLimit(events=1000))
    world = World()
    async with world.process() as process:
        service = Service(
            "shop", world.handlers, sidecar=process.service.sidecar, policy=Policy("shop", (limited,)),
            outbox=process.service.outbox,
        )  # fmt: skip
        answers = [await service.ingress.deliver(PATH, counted("pie", 1).encode()) for _ in range(3)]
    assert answers[-1] == SUCCESS
    assert len(calls) == 3


async def test_an_opening_that_fails_leaves_the_process_alive_and_not_ready(error: BaseException) -> None:
    async def opening(_context: Context) -> None:
        raise error

    service = Service("shop", sidecar=MemorySidecar("shop"), startup_hook=opening)
    await service.start()
    await poll(lambda: service._hook_task is not None and service._hook_task.done())
    assert not await service.ready()
    await service.stop()


async def test_one_of_many_deliveries_fails_by_itself(error: BaseException, monkeypatch: pytest.MonkeyPatch) -> None:
    world = World()
    async with world.process() as process:
        ingress = process.service.ingress
        fail_first(monkeypatch, type(ingress), "_deliver", error, times=1)
        entries = ",".join(
            f'{{"entryId":"{number}","event":{counted("pie", number).encode().decode()}}}' for number in range(2)
        )
        bulk = f'{{"entries":[{entries}],"id":"b","metadata":{{}},"pubsubname":"p","topic":"t",'
        bulk += '"type":"com.dapr.event.sent.bulk"}'
        with pytest.raises((BackgroundFailure, type(error))):
            await ingress.deliver(PATH, bulk.encode())


def test_work_that_is_closed_with_its_loop_stops() -> None:
    waiting = restart_on_failure("waiting", asyncio.Event().wait)  # type: ignore[arg-type] # it returns True

    async def begin() -> None:
        waiting.send(None)

    loop = asyncio.new_event_loop()
    loop.run_until_complete(begin())
    loop.close()
    waiting.close()


async def test_work_that_is_cancelled_or_whose_process_ends_stops() -> None:
    async def dies() -> None:
        raise ProcessEnd

    with pytest.raises(ProcessEnd):
        await restart_on_failure("dying", dies)
    task = asyncio.ensure_future(restart_on_failure("waiting", asyncio.Event().wait))  # type: ignore[arg-type] # it returns True
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
