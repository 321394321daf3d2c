"""Comparison of event-driven and coupled orders: stop loyalty, and count the orders that are still accepted.

The system is started twice on real sidecars: with orders placed by events, and with `orders` in coupled mode, which
calls payments, kitchen, loyalty and notifications over HTTP. Making a pizza does not depend on loyalty points: by
events, all orders are accepted and the points follow once loyalty is back; coupled, no order is accepted.

    python scenarios/coupling.py --orders 20
"""

import argparse
import asyncio
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http import HTTPStatus
from pathlib import Path
from typing import Literal

import httpx2
from rich.console import Console
from rich.table import Table

from tidings_cli.up.errors import StartFailed, UpError
from tidings_cli.up.run import Run, running
from tidings_cli.up.system import Options

ROOT = Path(__file__).resolve().parent.parent
PARTS = ("orders", "menu", "payments", "kitchen", "pickup", "loyalty", "notifications", "saas", "smtp")
ENVIRONMENT = {
    "KITCHEN_AUTOPILOT": "true",
    "KITCHEN_PACE": "0.2",  # slow enough that `orders` notices the missing loyalty before an order completes
    "KITCHEN_OPENING_CREW": "ana:Ana:cook",
    "PICKUP_AUTOPILOT": "true",
    "PICKUP_PACE": "0",
}
SETTLE = 60.0
"""Timeout in seconds for the effects of accepted orders."""

Mode = Literal["events", "coupled"]
console = Console()


@dataclass(slots=True)
class Batch:
    """Results of orders sent one after the other."""

    sent: int = 0
    accepted: list[str] = field(default_factory=list)
    cents: int = 0
    seconds: list[float] = field(default_factory=list)
    refusal: str = ""
    """Error message of the first refused order."""

    @property
    def count(self) -> str:
        return f"{len(self.accepted)} of {self.sent}"

    @property
    def middle(self) -> str:
        return f"{statistics.median(self.seconds) * 1000:.0f} ms"


@dataclass(frozen=True, slots=True)
class Outcome:
    """Results of one mode: with loyalty running, with loyalty stopped, and the points afterwards."""

    mode: Mode
    up: Batch
    stopped: Batch
    points: int
    """Final balance of the member."""

    @property
    def points_due(self) -> int:
        return sum(batch.cents // 100 * len(batch.accepted) for batch in (self.up, self.stopped))


async def place(orders: httpx2.AsyncClient, customer: str, count: int) -> Batch:
    """Send orders, one after the other."""
    batch = Batch(sent=count)
    for _ in range(count):
        began = time.perf_counter()
        answer = await orders.post("/orders", json=an_order(customer))
        batch.seconds.append(time.perf_counter() - began)
        if answer.status_code == HTTPStatus.ACCEPTED:
            batch.accepted.append(answer.json()["orderId"])
            batch.cents = answer.json()["totalCents"]
        else:
            batch.refusal = batch.refusal or answer.json()["detail"]
    return batch


def an_order(customer: str) -> dict[str, object]:
    """Return an order of one pizza for pickup."""
    return {
        "customer": {"customerId": customer, "name": "Ada", "email": "ada@example.org"},
        "fulfilment": "pickup",
        "lines": [{"sku": "margherita", "quantity": 1}],
        "paymentToken": "tok_ok",
    }


async def measure(mode: Mode, count: int, run_dir: Path) -> Outcome:
    """Start the system in a mode, and send orders with loyalty running and with loyalty stopped."""
    options = Options(
        only=PARTS, free_ports=True, fresh=True, run_dir=run_dir, environment={**ENVIRONMENT, "ORDERS_MODE": mode}
    )
    customer = f"ada-{mode}"
    async with running(ROOT, options) as run, httpx2.AsyncClient(timeout=30, trust_env=False) as client:
        client.base_url = httpx2.URL(run.url("orders"))
        await until_taken(client)
        up = await place(client, customer, count)
        async with run.stopped("loyalty"):
            stopped = await place(client, customer, count)
        outcome = Outcome(mode, up, stopped, 0)
        return Outcome(mode, up, stopped, await points(run, client, customer, outcome.points_due))


async def until_taken(orders: httpx2.AsyncClient) -> None:
    """Wait until the menu has arrived and orders are accepted.

    Raises:
        StartFailed: No order was accepted in time; the message has the last error.

    """
    end = time.monotonic() + SETTLE
    while not (first := await place(orders, "first", 1)).accepted:
        if time.monotonic() > end:
            raise StartFailed(f"no order was accepted within {SETTLE:.0f} s: {first.refusal}")
        await asyncio.sleep(0.2)


async def points(run: Run, client: httpx2.AsyncClient, customer: str, due: int) -> int:
    """Wait until a member has the points due, and return the balance, also after a timeout."""
    balance, end = 0, time.monotonic() + SETTLE
    while balance < due and time.monotonic() < end:
        await asyncio.sleep(0.2)
        answer = await client.get(f"{run.url('loyalty')}/members/{customer}")
        balance = answer.json().get("balance", 0) if answer.is_success else 0
    return balance


def table_of(outcomes: list[Outcome]) -> Table:
    """Return the outcomes as a table."""
    table = Table("orders are placed", "accepted", "answered in", "accepted, loyalty stopped", "points in the end")
    for outcome in outcomes:
        name = "by events" if outcome.mode == "events" else "coupled"
        balance = f"{outcome.points} of {outcome.points_due}"
        table.add_row(name, outcome.up.count, outcome.up.middle, outcome.stopped.count, balance)
    return table


def deviations(outcomes: list[Outcome]) -> Iterator[str]:
    """Yield the deviations from the claims of this scenario."""
    for outcome in outcomes:
        expected = outcome.stopped.sent if outcome.mode == "events" else 0
        if len(outcome.up.accepted) != outcome.up.sent:
            yield f"{outcome.mode}: with all services up only {outcome.up.count} were accepted: {outcome.up.refusal}"
        if len(outcome.stopped.accepted) != expected:
            yield f"{outcome.mode}: with loyalty stopped {outcome.stopped.count} were accepted, not {expected}"
        if outcome.points != outcome.points_due:
            yield f"{outcome.mode}: {outcome.points} points were given, {outcome.points_due} are due"


@contextmanager
def _kept(run_dir: Path | None) -> Iterator[Path]:
    """Yield the folder for the runs; delete it afterwards unless it was named."""
    if run_dir is not None:
        yield run_dir
        return
    with tempfile.TemporaryDirectory(prefix="coupling-") as name:
        yield Path(name)


def main() -> int:
    """Run the comparison; return 0 if the results are as claimed."""
    parser = argparse.ArgumentParser(description="Stop loyalty, and count the orders that are accepted.")
    parser.add_argument("--orders", type=int, default=20, help="orders sent in each situation (default 20)")
    parser.add_argument("--run-dir", type=Path, help="keep data and logs of both runs here")
    arguments = parser.parse_args()
    modes: tuple[Mode, Mode] = ("events", "coupled")
    outcomes: list[Outcome] = []
    with _kept(arguments.run_dir) as folder:
        for mode in modes:
            console.print(f"starting the system, orders placed {'by events' if mode == 'events' else 'coupled'} ...")
            try:
                outcomes.append(asyncio.run(measure(mode, arguments.orders, folder / mode)))
            except UpError as error:
                console.print(f"[red]{error}")
                return 1
    console.print(table_of(outcomes))
    for refusal in filter(None, (outcome.stopped.refusal for outcome in outcomes)):
        console.print(f"Error shown to the customer: {refusal}")
    failures = list(deviations(outcomes))
    for failure in failures:
        console.print(f"[red]not as claimed: {failure}")
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
