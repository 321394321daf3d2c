"""A Node service without the SDK on a real sidecar, broker and archive; the console replays its failed events."""

from __future__ import annotations

import asyncio
import json
import shutil
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx2
import pytest
import pytest_asyncio
from playwright.async_api import Page, expect
from tests.e2e.conftest import Open

from tidings_cli.up.run import Run, running
from tidings_cli.up.system import Options

PROJECT = Path(__file__).parent / "data" / "node"
pytestmark = [
    pytest.mark.browser,
    pytest.mark.real,
    pytest.mark.timeout(400),
    pytest.mark.asyncio(loop_scope="module"),
]


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def system(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Run]:
    if shutil.which("node") is None:
        pytest.skip("NOT TESTED, no Node here: apt-get install nodejs")
    folder = tmp_path_factory.mktemp("run")
    async with running(PROJECT, Options(free_ports=True, fresh=True, run_dir=folder)) as run:
        yield run


async def test_a_node_service_gets_dead_letters_with_a_reason_and_replays(system: Run, visit: Open) -> None:
    billing = Billing(system)
    await billing.sell("o-1")
    await billing.until_invoiced("o-1")

    billing.broken.touch()
    await billing.sell("o-2")
    page = await visit(f"{system.url('archive')}/console/dead-letters")
    letter = page.locator("article.letter")
    await expect(letter).to_contain_text("shop.itemSold")
    reason = "billing-item-sold did not acknowledge it: billing rejected it, answered with an error, or did not answer."
    await expect(letter.locator(".reason")).to_contain_text(reason)
    await expect(letter.locator(".failed")).to_contain_text("billing-item-sold")

    await replay(page)  # while it still fails: the same dead letter is open again
    await expect(letter).to_contain_text("failed 2 times")
    await expect(page.locator(".bulk")).to_be_empty()

    billing.broken.unlink()
    await replay(page)
    await billing.until_invoiced("o-1", "o-2")
    assert [entry["path"] for entry in billing.invoices()] == ["/invoices", "/invoices"]
    assert [entry["id"] for entry in billing.invoices()] == ["sale-o-1", "sale-o-2"]
    await page.get_by_role("link", name="Sent again").click()
    await expect(letter).to_contain_text("sent again, not confirmed yet")


async def replay(page: Page) -> None:
    await page.get_by_role("button", name="Send again", exact=True).click()
    dialog = page.get_by_role("dialog")
    await expect(dialog.locator(".dry")).to_contain_text("billing-item-sold")
    await dialog.get_by_label("Your name").fill("ada")
    await dialog.get_by_role("button", name="Send again").click()
    await expect(dialog).to_be_hidden()


class Billing:
    """The Node service: what is sold to it, and what it has invoiced."""

    def __init__(self, system: Run) -> None:
        data = system.run_dir / "data" / "billing"
        self.broken, self._invoices = data / "broken", data / "invoices"
        self._url = system.url("billing")

    async def sell(self, order: str) -> None:
        async with httpx2.AsyncClient(timeout=60, trust_env=False) as http:
            (await http.post(f"{self._url}/sales/{order}")).raise_for_status()

    def invoices(self) -> list[dict[str, Any]]:
        text = self._invoices.read_text() if self._invoices.exists() else ""
        return [json.loads(line) for line in text.splitlines()]

    async def until_invoiced(self, *orders: str) -> None:
        async with asyncio.timeout(60):
            while [entry["order"] for entry in self.invoices()] != list(orders):  # noqa: ASYNC110 - a file
                await asyncio.sleep(0.05)
