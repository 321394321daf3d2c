"""What a hundred times the load needs: the arithmetic, and a simulation of the wait in a topic's partitions.

`python bench/scaling.py` prints the tables of docs/explanation/scaling.md. The inputs are measurements from
docs/reference/benchmarks.md; replace them with those of your own machines.
"""

from __future__ import annotations

import random
from collections.abc import Iterator

EVENTS_PER_ORDER = 19.5
DELIVERIES_PER_EVENT = 2.5
CPU_MS = {"services": 8.84, "sidecars": 10.97, "broker": 1.83}
"""CPU per event at 50 events/s on two cores, all ten services together."""
LOAD = 50
"""Events per second of that measurement."""
TIMES = 100
STATE_MS = 0.355
"""CPU of PostgreSQL for a unit of work that reads and changes a row and publishes by the strategy `table`."""
EVENT_BYTES = 1_000
COPIES = 3
KEPT_SECONDS = 7 * 86_400
BUSY = 0.7
"""Share of a core that may be used on average, so that bursts do not queue."""
HANDLING_MS = 5.0
"""Mean time from delivery to acknowledgement of an event that loads, changes, saves and publishes."""
SAMPLES = 200_000


def arithmetic(times: int = TIMES) -> Iterator[tuple[str, str, str]]:
    """Yield each quantity with its value now and at `times` the load."""
    for what, unit, amount in _per_second(LOAD):
        yield what, f"{amount:,.1f}{unit}", f"{amount * times:,.0f}{unit}"


def _per_second(events: float) -> Iterator[tuple[str, str, float]]:
    yield "orders per second", "", events / EVENTS_PER_ORDER
    yield "events per second", "", events
    yield "deliveries per second", "", events * DELIVERIES_PER_EVENT
    for part, cost in CPU_MS.items():
        yield f"cores for the {part}, {BUSY:.0%} busy", "", events * cost / 1000 / BUSY
    state = events * DELIVERIES_PER_EVENT * STATE_MS / 1000
    yield f"cores for PostgreSQL, {BUSY:.0%} busy", "", state / BUSY
    yield "written by the brokers", " MB/s", events * EVENT_BYTES * COPIES / 1e6
    yield "kept by the brokers", " GB", events * EVENT_BYTES * COPIES * KEPT_SECONDS / 1e9


def waits(rate: float, partitions: int, handling_ms: float = HANDLING_MS, samples: int = SAMPLES) -> list[float]:
    """Simulate a topic, and return how long each event takes until it is handled, in milliseconds, sorted.

    Events arrive at random moments (Poisson) with random subjects, each partition has one at a time handled, and the
    time for one is distributed log-normally with a standard deviation as large as the mean.
    """
    chance = random.Random(1)
    sigma = 0.8325546  # sqrt(ln 2): the coefficient of variation is 1
    mean = handling_ms / 2**0.5
    free_at = [0.0] * partitions
    now, result = 0.0, list[float]()
    for _ in range(samples):
        now += chance.expovariate(rate) * 1000
        partition = chance.randrange(partitions)
        done = max(now, free_at[partition]) + mean * chance.lognormvariate(0, sigma)
        free_at[partition] = done
        result.append(done - now)
    return sorted(result)


def simulation(
    rate: float, partitions: tuple[int, ...] = (2, 3, 6, 12, 24)
) -> Iterator[tuple[int, float, float, float]]:
    """Yield the utilisation, the median and the 99th percentile in milliseconds for each number of partitions."""
    for count in partitions:
        taken = waits(rate, count)
        yield count, rate * HANDLING_MS / 1000 / count, taken[len(taken) // 2], taken[len(taken) * 99 // 100]


def tables() -> str:
    """Return both tables in Markdown."""
    lines = ["| | 50 events/s | 5,000 events/s |", "| --- | --- | --- |"]
    lines += [f"| {what} | {now} | {then} |" for what, now, then in arithmetic()]
    rate = LOAD * TIMES / EVENTS_PER_ORDER
    lines += ["", "| partitions | busy | p50 | p99 |", "| --- | --- | --- | --- |"]
    lines += [f"| {count} | {busy:.0%} | {p50:.0f} ms | {p99:.0f} ms |" for count, busy, p50, p99 in simulation(rate)]
    return "\n".join(lines)


if __name__ == "__main__":
    print(tables())
