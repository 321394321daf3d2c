"""How much later good events are handled when one in twenty is bad: p50 and p99 from sending to the commit.

    python bench/bad_events.py [nats|redis|rabbitmq|kafka] [events a second] [seconds] [rounds]

All runs use the same kind of sidecar, broker and service. The second has bad events of every known kind among the good
ones (tests/support/bad_events.py), except those whose handler hangs; the third has these, too, each of which takes its
time-out of three seconds. The kinds of run alternate. Run it on an otherwise idle machine.
"""

from __future__ import annotations

import asyncio
import logging
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import AsyncExitStack, contextmanager
from pathlib import Path
from typing import Any

import structlog

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from tests.support import bad_events  # noqa: E402 - its folder is put on the path first
from tests.support.bad_events import BAD, SHARE, encoded, envelope  # noqa: E402

from tidings.messages.envelope import new_id  # noqa: E402
from tidings_cli.testing import programs  # noqa: E402
from tidings_cli.testing.programs import Ports  # noqa: E402
from tidings_cli.testing.serving import Served  # noqa: E402

TICK = 0.1
"""Seconds between two publishings."""


@contextmanager
def started(broker: str, folder: Path, ports: Ports) -> Iterator[str]:
    """Run a broker; gives its address."""
    server: dict[str, Any] = {
        "nats": lambda: programs.nats_server(folder, ports.take()),
        "redis": lambda: programs.redis_server(folder, ports.take()),
        "rabbitmq": lambda: programs.rabbitmq_server(folder, ports),
        "kafka": lambda: programs.kafka_server(folder, ports),
    }
    with server[broker]() as address:
        yield address


Kinds = list[Callable[[int], dict[str, Any] | bytes]]


async def measure(broker: str, rate: int, seconds: int, kinds: Kinds) -> list[float]:
    """Send events at a rate, and return the seconds that each good one took, in order of size."""
    async with AsyncExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="tidings-")))
        ports = stack.enter_context(Ports())
        address = stack.enter_context(started(broker, folder, ports))

        async def daprd(app: str, **how: Any) -> Any:
            sidecar = programs.daprd(app, folder / app, ports, **how)
            stack.push_async_callback(sidecar.stop)
            await sidecar.start()
            return sidecar

        async def serve(app: Any) -> Any:
            served = Served(app, ports.take())
            stack.push_async_callback(served.stop)
            await served.start()
            return served

        app = f"till{new_id()[-6:]}"
        shop, _, publish = await stack.enter_async_context(
            bad_events.running(broker, address, app, folder, daprd, serve)
        )
        good, per_tick, begun = set(), max(round(rate * TICK), 1), time.perf_counter()
        for tick in range(round(seconds / TICK)):
            events = []
            for number in range(tick * per_tick, (tick + 1) * per_tick):
                is_bad = bool(kinds) and number % SHARE == SHARE // 2
                good |= set() if is_bad else {number}
                made = kinds[number // SHARE % len(kinds)](number) if is_bad else envelope(number)
                events.append(encoded(made))
            await publish(events)
            await asyncio.sleep(max(begun + (tick + 1) * TICK - time.perf_counter(), 0))
        while not shop.handled.keys() >= good:  # noqa: ASYNC110 - counted by the service in this very process
            await asyncio.sleep(0.05)
        return sorted(shop.latency[number] for number in good)


def percentile(values: list[float], part: float) -> float:
    """Return a percentile of sorted values, in milliseconds."""
    return 1000 * values[int(len(values) * part)]


async def main(broker: str = "nats", rate: str = "50", seconds: str = "20", rounds: str = "3") -> None:
    """Measure all kinds of run in turn and print the medians, and the ratio of each round's p99 to that without bad."""
    print(f"{broker}, {rate} events/s for {seconds} s, {rounds} rounds | p50 ms | p99 ms | p99 against all good")
    hanging = "the handler hangs"
    runs: dict[str, Kinds] = {
        "all good": [],
        "1 in 20 bad, none hangs": [make for name, make in BAD.items() if name != hanging],
        "1 in 20 bad, with some that hang": list(BAD.values()),
    }
    took: dict[str, list[list[float]]] = {name: [] for name in runs}
    for number in range(int(rounds)):
        # Alternate the order, so that other load on the machine affects all of them.
        for name in runs if number % 2 else reversed(runs):
            took[name].append(await measure(broker, int(rate), int(seconds), runs[name]))
    for name, values in took.items():
        p50, p99 = (statistics.median(percentile(each, part) for each in values) for part in (0.5, 0.99))
        pairs = zip(values, took["all good"], strict=True)
        ratios = [percentile(mine, 0.99) / percentile(good, 0.99) for mine, good in pairs]
        print(f"{name} | {p50:.1f} | {p99:.1f} | {statistics.median(ratios):.1f}x", flush=True)


if __name__ == "__main__":
    # Tracebacks of errors that are part of the measurement would be most of its work.
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))
    asyncio.run(main(*sys.argv[1:]))
