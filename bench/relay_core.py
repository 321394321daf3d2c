"""Whether one relay could serve documents and tables: what each costs per message.

Decision 15 uses the figures. The side of the documents runs on a state store that costs nothing, so that its rate is an
upper bound for the relay of the log strategy on a table; the side of the tables does its real work on SQLite.
"""

from __future__ import annotations

import asyncio
import tempfile
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import msgspec
from rounds import compare
from table_drain import EVENT, ROWS, Nowhere, drained, shop

from tidings.context import Outgoing
from tidings.outbox.documents import Slot
from tidings.outbox.lanes import Lanes


class Free(Nowhere):
    """Sidecar whose state store accepts and drops all writes."""

    async def transact(self, operations: Any) -> None:
        pass


async def delivered_by_lanes() -> None:
    """Deliver units of work of one event each, from the commit of all to the removal of the last slot."""
    lanes = Lanes(Free("shop"), "shop-0")

    async def never(scheduled: Any) -> None:
        raise AssertionError(scheduled)

    await lanes.start(never)
    slots = await lanes.take(ROWS)
    units = [
        (slot, Slot(f"s{n}", str(n), [Outgoing("shop.itemSold.v1", msgspec.Raw((EVENT % (n, n)).encode()))]))
        for n, slot in enumerate(slots)
    ]
    for unit in units:
        lanes.committed([unit], ())
    while lanes.depth:  # noqa: ASYNC110 - as on the other side
        await asyncio.sleep(0.002)
    await lanes.stop(1.0)


def per_cpu_second(side: Callable[[], Awaitable[object]]) -> Callable[[], Awaitable[float]]:
    """Return messages per second of this process's CPU time, which other load on the machine changes little."""

    async def measured() -> float:
        began = time.process_time()
        await side()
        return ROWS / (time.process_time() - began)

    return measured


async def run() -> None:
    with tempfile.TemporaryDirectory() as folder:
        url = f"sqlite:///{Path(folder)}/shop.db"
        async with shop(url):
            pass  # creates the tables
        result = await compare(
            "a message relayed",
            {
                "relay of the tables, on SQLite": per_cpu_second(lambda: drained(url)),
                "relay of the documents": per_cpu_second(delivered_by_lanes),
            },
            unit="messages per CPU second",
            bar="none: a decision's figures",
            settings="publishing free; the documents' store free as well",
        )
    print(result.row())


if __name__ == "__main__":
    asyncio.run(run())
