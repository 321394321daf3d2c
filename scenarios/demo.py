"""Place a burst of orders through the HTTP API, follow each to its end, and check the counts of all services.

Uses the system started by `make run`; otherwise it starts one and stops it afterwards.

    python scenarios/demo.py --orders 200
"""

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

from tidings_cli.up import state
from tidings_cli.up.errors import NotRunning, UpError
from tidings_cli.up.run import running
from tidings_cli.up.system import Options

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
"""Short names for the events of an order."""
console = Console(width=None if sys.stdout.isatty() else 190)


@asynccontextmanager
async def system(broker: str) -> AsyncIterator[URLs]:
    """Yield the addresses of the running system, or of one started without simulated delays."""
    try:
        run_state = state.read(ROOT / ".run")
        if run_state.running and run_state.phase == "ready":
            console.print("using the running system")
            yield lambda name: run_state.find(name).url
            return
    except NotRunning:
        pass
    console.print("starting the system without simulated delays ...")
    async with running(ROOT, Options(free_ports=True, environment=PACE, broker=broker)) as run:
        yield run.url


def ways(orders: dict[str, Follow], burst: Burst) -> Table:
    """Return a table with the steps of each order."""
    table = Table("order", "answered in", "way", "ended", "took", box=None)
    for placed in burst.placed:
        tracked = orders[placed.order_id]
        steps = [STEPS[entry["type"]] for entry in tracked["timeline"] if entry["type"] in STEPS]
        begin, end = (tracked["timeline"][where]["time"] for where in (0, -1))
        took = _seconds(begin, end)
        reason = f"{tracked['stage']}: {tracked['reason']}" if tracked["reason"] else tracked["stage"]
        table.add_row(placed.order_id[-8:], f"{placed.answered * 1000:.0f} ms", " ".join(steps), reason, took)
    return table


def _seconds(begin: str, end: str) -> str:
    return f"{(datetime.fromisoformat(end) - datetime.fromisoformat(begin)).total_seconds():.2f} s"


def times(orders: dict[str, Follow]) -> Table:
    """Return a table with the durations of each leg."""
    table = Table("from", "to", "orders", "p50", "p95", title="from fact to fact")
    for (start, end), values in legs(orders.values()).items():
        if values:
            ordered = sorted(values)
            p95 = ordered[min(int(len(ordered) * 0.95), len(ordered) - 1)]
            middle = statistics.median(ordered)
            table.add_row(start, end, str(len(values)), f"{middle * 1000:.0f} ms", f"{p95 * 1000:.0f} ms")
    return table


async def run(count: int, concurrency: int, patience: float, broker: str) -> list[str]:
    """Place the burst, follow it to its end and print it; return the disagreements."""
    async with system(broker) as url, httpx2.AsyncClient(timeout=10, trust_env=False) as client:
        before = await counts(client, url)
        began = time.perf_counter()
        burst = await place(client, url, count, concurrency=concurrency, seed=time.time_ns())
        console.print(f"{len(burst.placed)} orders accepted in {time.perf_counter() - began:.1f} s")
        with Progress(console=console, transient=True) as progress:
            task = progress.add_task("orders finished", total=len(burst.ids))
            ids = burst.ids
            orders = await follow(
                client, url, ids, patience=patience, seen=lambda done: progress.update(task, completed=done)
            )
        took = time.perf_counter() - began
        problems = [f"refused: {reason} ({number} times)" for reason, number in burst.refusals.items()]
        problems += await until_agreed(client, url, before, burst.due())
        orders = await follow(client, url, ids, patience=patience)  # includes later events: settlement and points
    console.print(ways(orders, burst))
    console.print(times(orders))
    console.print(f"all {len(orders)} orders converged in {took:.1f} s")
    return problems


def main() -> int:
    """Run the demo; return 0 if all counts agree."""
    parser = argparse.ArgumentParser(description="Place a burst of orders and follow problem to its end.")
    parser.add_argument("--orders", type=int, default=200, help="how many (default 200)")
    parser.add_argument("--concurrency", type=int, default=16, help="how many at once (default 16)")
    parser.add_argument("--patience", type=float, default=300, help="seconds until an order counts as lost")
    parser.add_argument("--broker", default="", help="nats or redis, if the system has to be started")
    arguments = parser.parse_args()
    try:
        problems = asyncio.run(run(arguments.orders, arguments.concurrency, arguments.patience, arguments.broker))
    except UpError as error:
        console.print(f"[red]{error}")
        return 1
    for problem in problems:
        console.print(f"[red]counts disagree: {problem}")
    if not problems:
        console.print("[green]the counts of every service agree: nothing lost, nothing doubled")
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
