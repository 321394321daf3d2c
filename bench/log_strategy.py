"""The log strategy on a real daprd, NATS and SQLite: what it adds to a bare publish, and to a bare write.

At 200 events a second: from the return of the commit to the broker's acknowledgement of the event, against the time
that a bare publish takes until its acknowledgement.
"""

from __future__ import annotations

import asyncio
import tempfile
import time
from collections.abc import Iterable, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from cpu_breakdown import cpu_breakdown
from rounds import Comparison, Section, compare, p99

from tidings import Event, Service, StateContext, event
from tidings.brokers.components import render
from tidings.brokers.jetstream import ensure_streams
from tidings.dapr import Operation
from tidings.dapr.client import DaprSidecar
from tidings.messages.envelope import Envelope, new_id
from tidings_cli.testing.programs import Ports, daprd, nats_server

SETS = Path(__file__).resolve().parents[1] / "components"
TOPIC = "shop.itemSold.v1"
EVENTS, PER_SECOND, WRITES, TASKS = 300, 200, 300, 8
SETTINGS = "NATS JetStream, file storage, flushed every 2 min; SQLite, WAL, as daprd opens it"


@event("shop.itemSold", subject="item")
class Sold(Event):
    item: str


class Timed(DaprSidecar):
    """Sidecar that records the times of commits and acknowledgements by item."""

    committed: dict[str, float]
    acknowledged: dict[str, float]

    def forget(self) -> None:
        self.committed, self.acknowledged = {}, {}

    async def transact(self, operations: Iterable[Operation]) -> None:
        batch = list(operations)
        await super().transact(batch)
        self.committed[_subject(batch)] = time.perf_counter()

    async def publish(self, topic: str, data: bytes, *, metadata: Any = None) -> None:
        await super().publish(topic, data, metadata=metadata)
        self._record(data)

    async def publish_many(self, topic: str, events: Sequence[bytes]) -> list[Any]:
        results = await super().publish_many(topic, events)
        for event_bytes in events:
            self._record(event_bytes)
        return results

    def _record(self, data: bytes) -> None:
        self.acknowledged[_item(data)] = time.perf_counter()


def _item(data: bytes) -> str:
    return data.split(b'"item":"')[1].split(b'"')[0].decode()


def _subject(operations: Sequence[Operation]) -> str:
    values = (getattr(operation, "value", b"") or b"" for operation in operations)
    return next((_item(value) for value in values if b'"item":"' in value), "")


async def publish_and_save(item: str, context: StateContext) -> None:
    await context.load(Sold, item)
    context.save(item, Sold(item=item))
    context.publish(Sold(item=item))


async def keep(item: str, context: StateContext) -> None:
    await context.load(Sold, item)
    context.save(item, Sold(item=item))


async def paced(act: Any) -> None:
    """Call `act` at a fixed rate, whether or not earlier calls have ended."""
    began = time.perf_counter()
    tasks = []
    for number in range(EVENTS):
        await asyncio.sleep(max(began + number / PER_SECOND - time.perf_counter(), 0))
        tasks.append(asyncio.create_task(act(new_id())))
    await asyncio.gather(*tasks)


async def emptied(service: Service) -> None:
    while service.outbox.depth:  # noqa: ASYNC110 - the outbox has no notification
        await asyncio.sleep(0.01)


async def through_the_log(service: Service, sidecar: Timed) -> float:
    """Return the 99th percentile from commit to acknowledgement in milliseconds."""
    sidecar.forget()
    await paced(lambda item: service.execute(publish_and_save, item))
    await emptied(service)
    waits = [sidecar.acknowledged[item] - when for item, when in sidecar.committed.items() if item]
    assert len(waits) >= EVENTS
    return p99(waits) * 1000


async def bare(sidecar: Timed) -> float:
    """Return the 99th percentile of a publish call in milliseconds."""
    waits = []

    async def publish(item: str) -> None:
        body = Envelope(
            id=item, source="shop", type="shop.itemSold", specversion="1.0", version="1",
            datacontenttype="application/json",
        ).encode()  # fmt: skip
        began = time.perf_counter()
        await DaprSidecar.publish(sidecar, TOPIC, body)
        waits.append(time.perf_counter() - began)

    await paced(publish)
    return p99(waits) * 1000


async def writes(service: Service, function: Any) -> float:
    """Return units of work per second with `TASKS` concurrent tasks; empty the outbox afterwards."""
    items = iter([new_id() for _ in range(WRITES)])

    async def work() -> None:
        for item in items:
            await service.execute(function, item)

    began = time.perf_counter()
    await asyncio.gather(*(work() for _ in range(TASKS)))
    seconds = time.perf_counter() - began
    await emptied(service)
    return WRITES / seconds


WHO_WORKS = f"""CPU time of a unit of work, {TASKS} at a time. Without an event, a unit is one read and one transaction.
With an event, the transaction also writes an outbox slot, and the event goes through daprd to NATS in a batch with
other events. Both cores are busy on both sides, so the ratio of the rates is the inverse of the ratio of these sums.

"""


async def measured(sidecar: Timed) -> list[Comparison | Section]:
    service = Service("shop", sidecar=sidecar)
    await service.start()
    latency = await compare(
        f"log: commit to acknowledgement at {PER_SECOND}/s, p99",
        {"log": lambda: through_the_log(service, sidecar), "bare publish": lambda: bare(sidecar)},
        unit="ms",
        bar="at most 5 ms above",
        above=5,
        settings=SETTINGS,
        less_is_better=True,
    )
    sides = {"with": lambda: writes(service, publish_and_save), "without": lambda: writes(service, keep)}
    writing = await compare(
        "write rate with outbox (log)",
        sides,
        unit="units of work/s",
        bar="at least 0.6x",
        target=0.6,
        settings=f"{SETTINGS}; {TASKS} at a time",
    )
    breakdown = Section("Log strategy: CPU breakdown", WHO_WORKS + await cpu_breakdown(sides, WRITES))
    await service.stop()
    return [latency, writing, breakdown]


async def run() -> list[Comparison | Section]:
    """Measure."""
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        ports = stack.enter_context(Ports())
        (folder / "nats").mkdir()
        url = stack.enter_context(nats_server(folder / "nats", ports.take()))
        await ensure_streams(url, [TOPIC])
        resources = [
            *render(SETS / "nats", {"NATS_URL": url}),
            *render(SETS / "state-sqlite", {"STATE_FILE": str(folder / "state.db")}),
        ]
        runtime = daprd("shop", folder / "daprd", ports, resources=resources)
        await runtime.start()
        try:
            sidecar = Timed(runtime.address)
            sidecar.forget()
            return await measured(sidecar)
        finally:
            await runtime.stop()


if __name__ == "__main__":
    for result in asyncio.run(run()):
        print(result.row() if isinstance(result, Comparison) else result.text)
