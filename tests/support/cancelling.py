"""Work that is cancelled at random moments, over and over: nothing may stay behind.

`TIDINGS_CANCELLATIONS=100000 pytest …` runs as many rounds; `make cancellations` does so for every test of this kind.
"""

from __future__ import annotations

import asyncio
import gc
import os
import random
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from typing import Any

from sqlalchemy.pool import QueuePool
from tests.conformance.processes import Process
from tests.conformance.shop import counted
from tests.conformance.worlds import World, effects

from tidings.messages.envelope import Envelope
from tidings.outbox.sql import Database

ROUNDS = int(os.environ.get("TIDINGS_CANCELLATIONS", "0"))
SEED = int(os.environ.get("TIDINGS_SEED", "0")) or random.SystemRandom().randrange(1, 1 << 32)


@contextmanager
def uncollected() -> Iterator[None]:
    """Switch the garbage collector off: what only it would find is left behind."""
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


def checked_out(database: Database) -> int:
    """Return the number of connections of a database that are in use."""
    engines = [item for item in (database.engine, database._relaxed, database._autocommit) if item is not None]
    pools = [engine.pool for engine in engines]
    return sum(pool.checkedout() for pool in pools if isinstance(pool, QueuePool))


def numbers(rounds: int) -> Iterator[int]:
    """Count rounds, and collect garbage after each thousand: that of 100,000 would fill the memory."""
    for number in range(rounds):
        yield number
        if number % 1000 == 999:
            gc.collect()


async def cancelled(
    work: Callable[[], Awaitable[object]],
    rounds: int,
    *,
    concurrency: int = 1,
    after_round: Callable[[], Awaitable[object]] | None = None,
) -> int:
    """Start work as often as that, cancel it at random moments of its course, and return how often it was cancelled.

    The moments are spread over the time that undisturbed work takes here, so the machine's speed does not matter.
    `concurrency` pieces of work run together and compete for connections and locks; each is cancelled at a moment of
    its own. `after_round` checks what they have left behind.
    """
    print(f"TIDINGS_SEED={SEED}")  # noqa: T201 - pytest shows it where the test fails
    return await _cancelled(work, ROUNDS or rounds, random.Random(SEED), concurrency, after_round)


async def _cancelled(
    work: Callable[[], Awaitable[object]],
    rounds: int,
    chance: random.Random,
    concurrency: int,
    after_round: Callable[[], Awaitable[object]] | None = None,
) -> int:
    whole, broken_off = 0.0, 0
    for number in numbers(-(-rounds // concurrency)):
        if number % 50 == 0:
            began = time.perf_counter()
            await asyncio.gather(*(work() for _ in range(concurrency)))
            whole = time.perf_counter() - began
        ended = await asyncio.gather(*(_broken_off(work, chance, whole * 1.2) for _ in range(concurrency)))
        broken_off += sum(ended)
        if after_round is not None:
            await after_round()
    return broken_off


async def _broken_off(work: Callable[[], Awaitable[object]], chance: random.Random, longest: float) -> bool:
    task = asyncio.ensure_future(work())
    await asyncio.sleep(chance.uniform(0.0, longest))
    for _ in range(chance.choice([1, 1, 2])):  # a shutdown may follow a time-out
        task.cancel()
        await asyncio.sleep(0)
    try:
        await task
    except asyncio.CancelledError:
        return True
    return False


SIDE_BY_SIDE = 24
"""Deliveries at a time: more than a database has connections."""
BATCH = 40 * SIDE_BY_SIDE
"""Deliveries after which those that were cancelled are repeated: what is left behind would stop the next batch."""


async def cancelled_deliveries(world: World, rounds: int) -> None:
    """Cancel deliveries at random moments, bring those events again, and expect one effect of each."""
    print(f"TIDINGS_SEED={SEED}")  # noqa: T201 - pytest shows it where the test fails
    rounds, chance, known = ROUNDS or rounds, random.Random(SEED), set[str]()
    async with world.process() as process:
        for start in range(0, rounds, BATCH):
            causes = await _deliver_batch(world, process, start, min(BATCH, rounds - start), chance)
            known |= await _published_once(world, causes, known)
            world.forget_published()
            gc.collect()


async def _deliver_batch(
    world: World, process: Process, start: int, rounds: int, chance: random.Random
) -> list[Envelope]:
    causes: list[Envelope] = []

    async def one() -> None:
        cause = counted(f"item-{start}-{len(causes) % (SIDE_BY_SIDE // 2)}", start + len(causes))
        causes.append(cause)
        await process.deliver(cause)

    await _cancelled(one, rounds, chance, SIDE_BY_SIDE)
    for first in range(0, len(causes), SIDE_BY_SIDE):
        await asyncio.gather(*(_until_handled(process, cause) for cause in causes[first : first + SIDE_BY_SIDE]))
    await world.until_published(causes)
    await process.published_all()
    await world.until_nothing_is_left()
    return causes


async def _published_once(world: World, causes: list[Envelope], known: set[str]) -> set[str]:
    """Expect one effect of each event, and return the ids of those that were published."""
    published = [item for item in await world.published() if item["id"] not in known]  # an earlier one may come again
    ids = {item["id"] for item in published}
    assert len(ids) == len({item["causationid"] for item in published}) == len(causes)
    for totals in effects(published).values():
        assert not world.ordered or totals == list(range(1, len(totals) + 1))
    return ids


async def _until_handled(process: Process, cause: Envelope) -> None:
    while not await process.deliver(cause):  # noqa: ASYNC110 - as a broker does
        await asyncio.sleep(0.01)


class Client:
    """A browser that asks an ASGI application, reads some of the answer or nothing, and goes away."""

    def __init__(self, path: str, *, reads: int) -> None:
        self.scope = {
            "type": "http",
            "asgi": {"version": "3.0", "spec_version": "2.3"},
            "http_version": "1.1",
            "method": "GET",
            "scheme": "http",
            "path": path,
            "raw_path": path.encode(),
            "query_string": b"",
            "root_path": "",
            "headers": [(b"host", b"127.0.0.1")],
            "client": ("127.0.0.1", 1),
            "server": ("127.0.0.1", 80),
        }
        self._unread = reads
        self._asked = False
        self.gone = asyncio.Event()

    async def receive(self) -> dict[str, Any]:
        if self._asked:
            await self.gone.wait()
            return {"type": "http.disconnect"}
        self._asked = True
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(self, message: Any) -> None:
        if message["type"] == "http.response.body":
            self._unread -= 1
            if self._unread < 0:  # its buffers are full
                await asyncio.Event().wait()
