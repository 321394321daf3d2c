"""A burst of real orders through the HTTP API: each one's way, its times, and whether everything adds up.

Uses the system that `make run` has started; where none runs, it starts one and stops it afterwards.

    python scenarios/demo.py --orders 200
"""

from __future__ import annotations

import argparse
import asyncio
import statistics
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import datetime
from pathlib import Path

import httpx2
from ordering import Burst, Follow, URLs, counts, follow, legs, place, until_agreed
from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from tidings.up import state
from tidings.up.errors import NotRunning, UpError
from tidings.up.run import running
from tidings.up.system import Options

ROOT = Path(__file__).resolve().parent.parent
PACE = {"KITCHEN_PACE": "0", "PICKUP_PACE": "0", "DELIVERY_PACE": "0"}
STEPS = {
    "orders.orderPlaced": "placed",
    "payments.paymentAuthorised": "paid",
    "payments.paymentRefused": "refused",
    "orders.orderConfirmed": "confirmed",
    "kitchen.preparationStarted": "started",
    "kitchen.pizzaPrepared": "prepared",
    "kitchen.pizzaBaked": "baked",
    "kitchen.qualityChecked": "checked",
    "kitchen.pizzaBoxed": "boxed",
    "pickup.orderShelved": "shelved",
    "pickup.orderCollected": "collected",
    "delivery.driverAssigned": "assigned",
    "delivery.orderCollected": "collected",
    "delivery.orderDelivered": "delivered",
    "orders.orderCompleted": "completed",
    "orders.orderCancelled": "cancelled",
    "payments.paymentSettled": "settled",
    "loyalty.pointsAdded": "points",
}
"""The facts of an order's way, in a word each."""
console = Console(width=None if sys.stdout.isatty() else 190)


@asynccontextmanager
async def system(broker: str) -> AsyncIterator[URLs]:
    """The running system, or one that is started for the purpose, in which people and ovens take no time."""
    try:
        found = state.read(ROOT / ".run")
        if found.running and found.phase == "ready":
            console.print("using the system that is running")
            yield lambda name: found.find(name).url
            return
    except NotRunning:
        pass  # then one is started
    console.print("starting the system, in which people and ovens take no time ...")
    async with running(ROOT, Options(free_ports=True, environment=PACE, broker=broker)) as run:
        yield run.url


def ways(told: dict[str, Follow], burst: Burst) -> Table:
    """Each order's way in one line."""
    table = Table("order", "answered in", "way", "ended", "took", box=None)
    for placed in burst.placed:
        each = told[placed.order_id]
        steps = [STEPS[entry["type"]] for entry in each["timeline"] if entry["type"] in STEPS]
        begin, end = (each["timeline"][where]["time"] for where in (0, -1))
        took = _seconds(begin, end)
        reason = f"{each['stage']}: {each['reason']}" if each["reason"] else each["stage"]
        table.add_row(placed.order_id[-8:], f"{placed.answered * 1000:.0f} ms", " ".join(steps), reason, took)
    return table


def _seconds(begin: str, end: str) -> str:
    return f"{(datetime.fromisoformat(end) - datetime.fromisoformat(begin)).total_seconds():.2f} s"


def times(told: dict[str, Follow]) -> Table:
    """The times of each leg."""
    table = Table("from", "to", "orders", "p50", "p95", title="from fact to fact")
    for (start, end), values in legs(told.values()).items():
        if values:
            ordered = sorted(values)
            p95 = ordered[min(int(len(ordered) * 0.95), len(ordered) - 1)]
            middle = statistics.median(ordered)
            table.add_row(start, end, str(len(values)), f"{middle * 1000:.0f} ms", f"{p95 * 1000:.0f} ms")
    return table


async def run(count: int, concurrency: int, patience: float, broker: str) -> list[str]:
    """Place the burst, follow it to its end, print it; answers what does not add up."""
    async with system(broker) as url, httpx2.AsyncClient(timeout=10, trust_env=False) as client:
        before = await counts(client, url)
        began = time.perf_counter()
        burst = await place(client, url, count, concurrency=concurrency, seed=time.time_ns())
        console.print(f"{len(burst.placed)} orders accepted in {time.perf_counter() - began:.1f} s")
        with Progress(console=console, transient=True) as progress:
            task = progress.add_task("orders finished", total=len(burst.ids))
            ids = burst.ids
            told = await follow(
                client, url, ids, patience=patience, seen=lambda done: progress.update(task, completed=done)
            )
        took = time.perf_counter() - began
        wrong = [f"refused: {reason} ({number} times)" for reason, number in burst.refusals.items()]
        wrong += await until_agreed(client, url, before, burst.due())
        told = await follow(client, url, ids, patience=patience)  # with what came after the end: money and points
    console.print(ways(told, burst))
    console.print(times(told))
    console.print(f"all {len(told)} orders converged in {took:.1f} s")
    return wrong


def main() -> int:
    """Run the demo; 0 where everything adds up."""
    parser = argparse.ArgumentParser(description="Place a burst of orders and follow each to its end.")
    parser.add_argument("--orders", type=int, default=200, help="how many (default 200)")
    parser.add_argument("--concurrency", type=int, default=16, help="how many at once (default 16)")
    parser.add_argument("--patience", type=float, default=300, help="seconds until an order counts as lost")
    parser.add_argument("--broker", default="", help="nats or redis, where the system is started for the purpose")
    arguments = parser.parse_args()
    try:
        wrong = asyncio.run(run(arguments.orders, arguments.concurrency, arguments.patience, arguments.broker))
    except UpError as error:
        console.print(f"[red]{error}")
        return 1
    for each in wrong:
        console.print(f"[red]does not add up: {each}")
    if not wrong:
        console.print("[green]the counts of every service agree: nothing lost, nothing doubled")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
