"""Tenants' input is evaluated in forks of the operator: any behaviour there has a result and no other effect."""

from __future__ import annotations

import asyncio
import os
import resource
import signal
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from tidings_operator.judging import QUICK, Judge, JudgementError, TooLongError
from tidings_operator.workqueue import TURN, Key, WorkQueue


def descriptors() -> int:
    return len([*Path("/proc/self/fd").iterdir()])


def endless() -> None:
    while True:
        pass


def endless_in_c() -> int:
    enormous: int = 10**10**9
    return enormous % 7


def swallowing() -> None:
    while True:
        with suppress(BaseException):
            endless()


def bottomless() -> None:
    bottomless()


def greedy() -> int:
    return len([bytearray(10**7) for _ in range(10**6)])


def crash() -> None:
    os.kill(os.getpid(), signal.SIGSEGV)


def leave() -> None:
    os._exit(3)


def refuse() -> None:
    raise ValueError("what is this?")


def unsendable() -> Any:
    return lambda: None


HOSTILE: dict[str, tuple[Callable[[], Any], type[JudgementError], str]] = {
    "an endless loop": (endless, TooLongError, "CPU time"),
    "an endless loop in C": (endless_in_c, JudgementError, "CPU time|MemoryError"),
    "an endless loop that swallows what ends it": (swallowing, TooLongError, "CPU time"),
    "endless recursion": (bottomless, JudgementError, "RecursionError"),
    "too much memory": (greedy, JudgementError, "MemoryError"),
    "a crash": (crash, JudgementError, "signal 11"),
    "the end of the process": (leave, JudgementError, "exit code 3"),
    "an exception": (refuse, JudgementError, "ValueError: what is this?"),
    "an answer that cannot be sent": (unsendable, JudgementError, "pickle"),
}


@pytest.mark.parametrize("name", [*HOSTILE])
async def test_any_behaviour_of_an_evaluation_has_a_result(name: str) -> None:
    work, error, output = HOSTILE[name]
    judge = Judge()
    with pytest.raises(error, match=output):
        await judge(work, 0.2 if "CPU time" in output else 30.0)  # what ends by itself is not in a hurry
    assert await judge(lambda: "alive") == "alive"


async def test_the_rest_of_a_batch_gets_its_responses_and_the_loop_goes_on() -> None:
    judge, beats = Judge(), 0

    async def beat() -> None:
        nonlocal beats
        while True:
            await asyncio.sleep(0.01)
            beats += 1

    beating = asyncio.create_task(beat())
    works = [work for work, _, _ in HOSTILE.values()]
    good = [(lambda number=number: number) for number in range(2 * len(works))]
    mixed = [item for pair in zip(good, works * 2, strict=True) for item in pair]
    result = await asyncio.gather(*(judge(item, 0.1) for item in mixed), return_exceptions=True)
    beating.cancel()
    assert result[::2] == [*range(2 * len(works))]
    assert all(isinstance(item, JudgementError) for item in result[1::2])
    assert beats > len(works), "the loop stood still"


async def test_quick_evaluations_do_not_wait_for_slow_ones(tmp_path: Path) -> None:
    """However many slow ones came first, and however long each of them takes."""
    gate, judge = tmp_path / "open", Judge()

    def wait_for_gate() -> str:
        while not gate.exists():
            time.sleep(0.01)
        return "slow"

    slow = [asyncio.create_task(judge(wait_for_gate)) for _ in range(40)]
    await asyncio.sleep(0.1)
    quick = [asyncio.create_task(judge(lambda: os.nice(0), QUICK)) for _ in range(40)]
    niceness = await asyncio.wait_for(asyncio.gather(*quick), 120)
    assert set(niceness) == {os.nice(0)}, "at the operator's own priority"
    assert not any(task.done() for task in slow)
    gate.touch()
    assert await asyncio.wait_for(asyncio.gather(*slow), 120) == ["slow"] * 40


async def test_thorough_evaluations_have_the_chosen_priority() -> None:
    """The API server waits for those of the webhooks: beside busy processes, a nice one would take too long."""
    assert await Judge()(lambda: os.nice(0)) == os.nice(0) + 10
    assert await Judge(niceness=0)(lambda: os.nice(0)) == os.nice(0)


async def test_a_copy_changes_nothing_here_and_sees_what_is_known_now() -> None:
    judge, known = Judge(), {"a": 1}

    def change() -> dict[str, int]:
        known["b"] = 2
        return known

    first = asyncio.ensure_future(judge(change))
    known["a"] = 3
    assert await first == {"a": 3, "b": 2}
    assert known == {"a": 3}


async def test_an_abandoned_request_blocks_nothing_and_leaves_no_copy(monkeypatch: pytest.MonkeyPatch) -> None:
    judge, genuine = Judge(), os.fork
    made: list[int] = []

    def fork() -> int:
        made.append(genuine())
        return made[-1]

    monkeypatch.setattr(os, "fork", fork)
    asked = asyncio.ensure_future(judge(endless, 0.5))
    await asyncio.sleep(0.05)
    asked.cancel()
    assert await judge(lambda: 1, 0.5) == 1
    await asyncio.gather(*judge._tasks.values())
    assert made
    for item in made:
        with pytest.raises(ProcessLookupError):
            os.kill(item, 0)


async def test_where_no_copy_can_be_made_that_is_the_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    def fork() -> int:
        raise BlockingIOError("resource temporarily unavailable")

    judge = Judge()
    with monkeypatch.context() as patched:
        patched.setattr(os, "fork", fork)
        before = descriptors()
        with pytest.raises(JudgementError, match="temporarily unavailable"):
            await judge(lambda: 1)
        assert descriptors() == before
    assert await judge(lambda: 1) == 1


async def test_the_bound_on_memory_is_the_copys_alone() -> None:
    before = resource.getrlimit(resource.RLIMIT_AS)
    await Judge()(lambda: None)
    assert resource.getrlimit(resource.RLIMIT_AS) == before


def key(name: str) -> Key:
    return Key("app", "shop", name)


async def test_slow_keys_wait_for_all_quick_ones_one_at_a_time() -> None:
    queue = WorkQueue()
    slow = [key(f"slow{number}") for number in range(3)]
    for item in slow:
        queue.slow(item)
        queue.add(item)
    quick = [key(f"quick{number}") for number in range(10)]
    for item in quick:
        queue.add(item)
    taken = [(await queue.get())[0] for _ in range(10)]
    assert taken == quick
    assert (await queue.get())[0] == slow[0]
    second = asyncio.ensure_future(queue.get())
    await asyncio.sleep(0)
    assert not second.done(), "one slow key at a time"
    queue.add(key("late"))
    assert (await second)[0] == key("late"), "what is quick does not wait for it"
    third = asyncio.ensure_future(queue.get())
    await asyncio.sleep(0)
    queue.done(slow[0])
    assert (await asyncio.wait_for(third, 60))[0] == slow[1]
    assert queue.outstanding == 13


async def test_under_constant_load_a_slow_key_has_its_turn() -> None:
    queue = WorkQueue()
    queue.slow(key("slow"))
    queue.add(key("slow"))
    taken = []
    for number in range(TURN + 1):
        queue.add(key(f"quick{number}"))
        taken.append((await queue.get())[0])
    assert taken[-1] == key("slow")
