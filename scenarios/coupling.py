"""What a failing service costs: loyalty is stopped, and the orders that are still accepted are counted.

The whole system is started twice, on real sidecars: once with orders placed by events alone, once with `orders` in its
coupled mode, which waits for payments, kitchen, loyalty and notifications over HTTP. A pizza needs no loyalty points:
by events every order is accepted, and the points follow once loyalty is back; coupled, not one is.

    python scenarios/coupling.py --orders 20
"""

from __future__ import annotations

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

from tidings.up.errors import StartFailed, UpError
from tidings.up.run import Run, running
from tidings.up.system import Options

ROOT = Path(__file__).resolve().parent.parent
PARTS = ("orders", "menu", "payments", "kitchen", "pickup", "loyalty", "notifications", "saas", "smtp")
ENVIRONMENT = {
    "KITCHEN_AUTOPILOT": "true",
    "KITCHEN_PACE": "0.2",  # seconds a step: nobody gets a pizza before orders has found loyalty silent
    "KITCHEN_OPENING_CREW": "ana:Ana:cook",
    "PICKUP_AUTOPILOT": "true",
    "PICKUP_PACE": "0",
}
SETTLE = 60.0
"""Seconds that what has been accepted is given to have its effects."""

Mode = Literal["events", "coupled"]
console = Console()


@dataclass(slots=True)
class Batch:
    """Orders that were sent one after the other, and what became of them."""

    sent: int = 0
    accepted: list[str] = field(default_factory=list)
    cents: int = 0
    seconds: list[float] = field(default_factory=list)
    refusal: str = ""
    """What the first customer was told who was refused."""

    @property
    def count(self) -> str:
        return f"{len(self.accepted)} of {self.sent}"

    @property
    def middle(self) -> str:
        return f"{statistics.median(self.seconds) * 1000:.0f} ms"


@dataclass(frozen=True, slots=True)
class Outcome:
    """One mode: with loyalty up, with loyalty stopped, and the points afterwards."""

    mode: Mode
    up: Batch
    stopped: Batch
    points: int
    """What the member has in the end."""

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
    """One pizza, to be collected."""
    return {
        "customer": {"customerId": customer, "name": "Ada", "email": "ada@example.org"},
        "fulfilment": "pickup",
        "lines": [{"sku": "margherita", "quantity": 1}],
        "paymentToken": "tok_ok",
    }


async def measure(mode: Mode, count: int, run_dir: Path) -> Outcome:
    """Start the system in a mode, and send orders with loyalty up and with loyalty stopped."""
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
    """Wait until the menu has arrived and orders are taken.

    Raises:
        StartFailed: That has not come about; says what a customer was told.

    """
    end = time.monotonic() + SETTLE
    while not (first := await place(orders, "first", 1)).accepted:
        if time.monotonic() > end:
            raise StartFailed(f"no order was accepted within {SETTLE:.0f} s: {first.refusal}")
        await asyncio.sleep(0.2)


async def points(run: Run, client: httpx2.AsyncClient, customer: str, due: int) -> int:
    """How many points a member has, once there are as many as are due or the patience is over."""
    found, end = 0, time.monotonic() + SETTLE
    while found < due and time.monotonic() < end:
        await asyncio.sleep(0.2)
        answer = await client.get(f"{run.url('loyalty')}/members/{customer}")
        found = answer.json().get("balance", 0) if answer.is_success else 0
    return found


def shown(outcomes: list[Outcome]) -> Table:
    """The outcomes as a table."""
    table = Table("orders are placed", "accepted", "answered in", "accepted, loyalty stopped", "points in the end")
    for each in outcomes:
        name = "by events" if each.mode == "events" else "coupled"
        told = f"{each.points} of {each.points_due}"
        table.add_row(name, each.up.count, each.up.middle, each.stopped.count, told)
    return table


def complaints(outcomes: list[Outcome]) -> Iterator[str]:
    """What is not as this scenario claims."""
    for each in outcomes:
        expected = each.stopped.sent if each.mode == "events" else 0
        if len(each.up.accepted) != each.up.sent:
            yield f"{each.mode}: with all services up only {each.up.count} were accepted: {each.up.refusal}"
        if len(each.stopped.accepted) != expected:
            yield f"{each.mode}: with loyalty stopped {each.stopped.count} were accepted, not {expected}"
        if each.points != each.points_due:
            yield f"{each.mode}: {each.points} points were given, {each.points_due} are due"


@contextmanager
def _kept(run_dir: Path | None) -> Iterator[Path]:
    """The folder for runs and their logs: a given one stays."""
    if run_dir is not None:
        yield run_dir
        return
    with tempfile.TemporaryDirectory(prefix="coupling-") as name:
        yield Path(name)


def main() -> int:
    """Run the comparison; 0 where it came out as claimed."""
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
    console.print(shown(outcomes))
    for refusal in filter(None, (each.stopped.refusal for each in outcomes)):
        console.print(f"What the customer was told: {refusal}")
    wrong = list(complaints(outcomes))
    for complaint in wrong:
        console.print(f"[red]not as claimed: {complaint}")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
