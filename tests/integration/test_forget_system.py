"""Forgetting a person in the whole system: no file shows personal data, and old events can be replayed."""

from __future__ import annotations

import asyncio
import shutil
import tempfile
from collections.abc import Awaitable, Callable, Iterator
from http import HTTPStatus
from pathlib import Path
from typing import Any

import httpx2
import psycopg
import pytest
from typer.testing import CliRunner

from tidings_cli.commands import app
from tidings_cli.up import state
from tidings_cli.up.run import Run, running
from tidings_cli.up.system import Options

pytestmark = [pytest.mark.real, pytest.mark.timeout(500)]
ROOT = Path(__file__).parents[2]
PACE = {"KITCHEN_PACE": "0", "PICKUP_PACE": "0", "DELIVERY_PACE": "0"}
PERSON = "person-4711"
CUSTOMER = {"customerId": PERSON, "name": "Zyxwina Quorblefeld", "email": "zyxwina@quorblefeld.example"}
ADDRESS = {"street": "Unheardoflane 7", "city": "Nowhereville", "postcode": "QX-99471"}
WORDS = ("Zyxwina", "zyxwina", "Quorblefeld", "quorblefeld", "Unheardoflane", "Nowhereville", "QX-99471")
PATIENCE = 120.0


async def eventually(holds: Callable[[], Awaitable[Any]]) -> Any:
    async with asyncio.timeout(PATIENCE):
        while not (result := await holds()):  # noqa: ASYNC110 - the condition is in other processes
            await asyncio.sleep(0.2)
        return result


def files_with(folder: Path, *words: str) -> dict[str, list[str]]:
    """Return the files below a folder in which a word is found, as it is or in UTF-16."""
    result: dict[str, list[str]] = {}
    for file in folder.rglob("*"):
        if file.is_file() and not file.is_symlink():
            content = file.read_bytes()
            if hits := [word for word in words if word.encode() in content or word.encode("utf-16-le") in content]:
                result[str(file.relative_to(folder))] = hits
    return result


class Pizzeria:
    def __init__(self, run: Run, http: httpx2.AsyncClient) -> None:
        self.run, self.http = run, http
        self.token = {"dapr-api-token": state.read(run.run_dir).app_api_token}

    async def get(self, service: str, path: str, **query: Any) -> Any:
        async with asyncio.timeout(PATIENCE):
            while True:
                response = await self.http.get(f"{self.run.url(service)}{path}", headers=self.token, params=query)
                if response.status_code != HTTPStatus.SERVICE_UNAVAILABLE:  # on a busy machine, to be asked again
                    response.raise_for_status()
                    return response.json()
                await asyncio.sleep(0.2)

    async def order(self, fulfilment: str) -> str:
        body = {
            "customer": CUSTOMER, "fulfilment": fulfilment, "address": ADDRESS, "paymentToken": "tok_ok",
            "lines": [{"sku": "margherita", "quantity": 1}],
        }  # fmt: skip

        async def accepted() -> str | None:
            response = await self.http.post(f"{self.run.url('orders')}/orders", json=body)
            return str(response.json()["orderId"]) if response.status_code == 202 else None

        order_id: str = await eventually(accepted)  # the menu may not have arrived yet
        await eventually(lambda: self.completed(order_id))
        return order_id

    async def completed(self, order_id: str) -> bool:
        is_done: bool = (await self.get("orders", f"/orders/{order_id}"))["status"] == "completed"
        emails = await asyncio.gather(*(self.emails(order_id, kind) for kind in ("orderConfirmed", "orderCompleted")))
        return is_done and all(emails)

    async def emails(self, order_id: str, template: str) -> bool:
        sent = await self.get("archive", "/events", type="notifications.emailSent", correlationId=order_id)
        return any(event["data"]["template"] == template for event in sent["events"])


@pytest.fixture
def folder() -> Iterator[Path]:
    """Return a run folder that PostgreSQL's account can enter, which is another one as root."""
    around = Path(tempfile.mkdtemp(prefix="tidings-"))
    around.chmod(0o755)
    yield around / "run"
    shutil.rmtree(around)


async def check_forgotten(shop: Pizzeria, delivered: str, collected: str) -> None:
    """Check that services show the orders without the person, and that their events can be replayed."""
    (announcement,) = await eventually(lambda: announced(shop))
    assert announcement["data"]["person"] == PERSON
    for order_id in (delivered, collected):
        customer = (await shop.get("orders", f"/orders/{order_id}"))["customer"]
        assert customer == {"customerId": PERSON, "name": "***", "email": "***"}
    delivery = await shop.get("delivery", f"/orders/{delivered}")
    assert (delivery["customerName"], set(delivery["address"].values())) == ("***", {"***"})
    for consumer in ("delivery", "pickup", "tracking"):
        await replayed(shop, consumer, "orders.orderConfirmed.v2")


async def test_no_file_shows_a_person_and_after_forgetting_nothing_does(folder: Path) -> None:
    options = Options(free_ports=True, run_dir=folder, environment=PACE)
    async with running(ROOT, options) as run, httpx2.AsyncClient(timeout=60, trust_env=False) as http:
        shop = Pizzeria(run, http)
        delivered, collected = await shop.order("delivery"), await shop.order("pickup")
        assert (await shop.get("orders", f"/orders/{delivered}"))["customer"] == CUSTOMER
        delivery = await shop.get("delivery", f"/orders/{delivered}")
        assert (delivery["customerName"], delivery["address"]) == (CUSTOMER["name"], ADDRESS)
        assert files_with(folder, *WORDS) == {}
        assert files_with(folder, PERSON)  # the search finds what is there
    assert files_with(folder, *WORDS) == {}

    done = CliRunner().invoke(app, ["forget", PERSON, "--run-dir", str(folder), "--yes"])
    assert (done.exit_code, f"{PERSON} is forgotten" in done.output) == (0, True), done.output

    async with running(ROOT, options) as run, httpx2.AsyncClient(timeout=60, trust_env=False) as http:
        await check_forgotten(Pizzeria(run, http), delivered, collected)
        assert files_with(folder, *WORDS) == {}
    assert files_with(folder, *WORDS) == {}


async def test_with_state_and_keys_in_postgres_a_person_is_forgotten_through_the_archive(
    folder: Path, postgres: str
) -> None:
    with psycopg.connect(postgres, autocommit=True) as connection:
        connection.execute("CREATE DATABASE keys_of_persons")
    url = f"{postgres.rpartition('/')[0]}/keys_of_persons"
    keys = {"TIDINGS_KEYS": "", "TIDINGS_KEYS_URL": url, "TIDINGS_MASTER_KEY": "m" * 32}
    options = Options(free_ports=True, run_dir=folder, environment={**PACE, **keys}, state="postgres")
    async with running(ROOT, options) as run, httpx2.AsyncClient(timeout=60, trust_env=False) as http:
        shop = Pizzeria(run, http)
        delivered, collected = await shop.order("delivery"), await shop.order("pickup")
        assert (await shop.get("orders", f"/orders/{delivered}"))["customer"] == CUSTOMER
        assert (await shop.get("delivery", f"/orders/{delivered}"))["customerName"] == CUSTOMER["name"]
        assert files_with(folder, *WORDS) == {}
        command = ["forget", PERSON, "--archive", run.url("archive"), "--yes"]
        done = await asyncio.to_thread(CliRunner().invoke, app, command)
        assert done.exit_code == 0, done.output

        async def forgotten() -> bool:  # within the minute that services keep a key in memory
            order = await shop.get("orders", f"/orders/{collected}")
            delivery = await shop.get("delivery", f"/orders/{delivered}")
            return bool(order["customer"]["name"] == "***" and delivery["customerName"] == "***")

        await eventually(forgotten)
        await check_forgotten(shop, delivered, collected)
    assert files_with(folder, *WORDS) == {}


async def announced(shop: Pizzeria) -> list[Any]:
    return list((await shop.get("archive", "/events", type="tidings.subjectForgotten"))["events"])


async def replayed(shop: Pizzeria, consumer: str, kind: str) -> None:
    """Send the events of a type to a consumer again, and wait until it has confirmed all as handled."""
    url = f"{shop.run.url('archive')}/replays"
    asked = await shop.http.post(url, json={"consumer": consumer, "types": [kind]})
    assert asked.status_code == 202, asked.text
    replay_id = asked.json()["replayId"]

    async def confirmed() -> bool:
        replay = await shop.get("archive", f"/replays/{replay_id}")
        assert replay.get("failed", 0) == 0, replay
        return bool(replay["state"] == "completed" and replay["handled"] == 2)

    await eventually(confirmed)
