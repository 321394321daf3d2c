"""Events share calls while one is under way; each still gets its own answer."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from functools import partial

import pytest

from tidings.errors import PublishRefused, SidecarError, SidecarUnavailable
from tidings.outbox import publisher
from tidings.outbox.publisher import BatchingPublisher
from tidings.testing import MemorySidecar


class Slow(MemorySidecar):
    """A sidecar whose calls end when the test says so, refusing what is named `bad`."""

    def __init__(self) -> None:
        super().__init__("shop")
        self.sent: list[tuple[str, list[bytes]]] = []
        self.gates: list[asyncio.Event] = []
        self.broken: Exception | None = None

    async def publish(self, topic: str, data: bytes, *, metadata: object = None) -> None:
        del metadata
        if (error := (await self.publish_many(topic, [data]))[0]) is not None:
            raise error

    async def publish_many(self, topic: str, events: Sequence[bytes]) -> list[SidecarError | None]:
        self.sent.append((topic, list(events)))
        self.gates.append(gate := asyncio.Event())
        await gate.wait()
        if self.broken is not None:
            raise self.broken
        return [PublishRefused("bad") if event == b"bad" else None for event in events]

    async def let(self, call: int) -> None:
        """End a call, and let other tasks run."""
        self.gates[call].set()
        await settle()


async def settle() -> None:
    for _ in range(10):
        await asyncio.sleep(0)


async def begun(sender: BatchingPublisher, *events: bytes, topic: str = "t") -> list[asyncio.Task[None]]:
    tasks = [asyncio.create_task(sender.publish(topic, event)) for event in events]
    await settle()
    return tasks


@pytest.fixture(autouse=True)
def _no_pause(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(publisher, "_PAUSE", 0.0)


async def test_the_first_goes_immediately_and_those_behind_it_together() -> None:
    sidecar = Slow()
    tasks = await begun(BatchingPublisher(sidecar), b"1", b"2", b"3")
    assert sidecar.sent == [("t", [b"1"])]
    await sidecar.let(0)
    assert sidecar.sent[1:] == [("t", [b"2", b"3"])]
    assert [task.done() for task in tasks] == [True, False, False]
    await sidecar.let(1)
    assert all(task.done() for task in tasks)


async def test_after_a_call_the_rest_are_gathered_for_a_moment(monkeypatch: pytest.MonkeyPatch) -> None:
    pauses: list[Callable[[], object]] = []

    def call_later(_delay: float, function: Callable[..., object], *arguments: object) -> None:
        pauses.append(partial(function, *arguments))

    monkeypatch.setattr(asyncio.get_running_loop(), "call_later", call_later)  # the test says when a pause is over
    sidecar = Slow()
    sender = BatchingPublisher(sidecar)
    await begun(sender, b"1")
    await sidecar.let(0)
    await begun(sender, b"2")
    await begun(sender, b"3")
    assert len(sidecar.sent) == 1
    pauses.pop()()
    await settle()
    assert sidecar.sent[1:] == [("t", [b"2", b"3"])]
    await sidecar.let(1)
    pauses.pop()()
    await begun(sender, b"4")
    assert len(sidecar.sent) == 3, "after a pause in which no event came the next goes at once"


async def test_topics_do_not_wait_for_one_another() -> None:
    sidecar = Slow()
    sender = BatchingPublisher(sidecar)
    await begun(sender, b"1")
    (other,) = await begun(sender, b"2", topic="u")
    await sidecar.let(1)
    assert other.done()


@pytest.mark.parametrize("limit", ["_AT_ONCE", "_LENGTH_AT_ONCE"])
async def test_a_call_is_never_too_large(limit: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(publisher, limit, 2)
    sidecar = Slow()
    tasks = await begun(BatchingPublisher(sidecar), b"1", b"2", b"3", b"4", b"5")
    for call in range(3):
        await sidecar.let(call)
    assert [events for _, events in sidecar.sent] == [[b"1"], [b"2", b"3"], [b"4", b"5"]]
    assert all(task.done() for task in tasks)


async def test_every_caller_gets_its_own_result_and_a_cancelled_one_is_not_sent() -> None:
    sidecar = Slow()
    first, good, bad, removed = await begun(BatchingPublisher(sidecar), b"1", b"good", b"bad", b"gone")
    removed.cancel()
    await settle()
    await sidecar.let(0)
    await sidecar.let(1)
    assert sidecar.sent[1] == ("t", [b"good", b"bad"])
    assert (first.exception(), good.exception(), str(bad.exception())) == (None, None, "bad")
    assert removed.cancelled()


@pytest.mark.parametrize("error", [SidecarUnavailable("away"), ZeroDivisionError()])
async def test_a_call_that_fails_whole_fails_for_all_and_the_next_goes_on(error: Exception) -> None:
    sidecar = Slow()
    sender = BatchingPublisher(sidecar)
    first, second = await begun(sender, b"1", b"2")
    await sidecar.let(0)
    sidecar.broken = error
    await sidecar.let(1)
    sidecar.broken = None
    assert (first.exception(), second.exception()) == (None, error)
    (third,) = await begun(sender, b"3")
    await sidecar.let(2)
    assert third.exception() is None


async def test_stopping_releases_all_waiting_callers() -> None:
    sidecar = Slow()
    sender = BatchingPublisher(sidecar)
    _, second, third = await begun(sender, b"1", b"2", b"3")
    await sidecar.let(0)
    sender.stop()
    await settle()
    assert second.cancelled()
    assert third.cancelled()
