"""The page in front of the whole system: real services, real sidecars, a real broker."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx2
import pytest
import pytest_asyncio
from playwright.async_api import Page, expect
from scenarios.ordering import place
from tests.e2e.conftest import Open
from tests.support import checkout

from tidings_cli.up.run import Run, running
from tidings_cli.up.system import Options

ROOT = Path(__file__).resolve().parents[2]
PACE = {"KITCHEN_PACE": "0.3", "PICKUP_PACE": "0.3", "DELIVERY_PACE": "0.3"}
COOKED = 120_000
"""Milliseconds that an order may take from the click to its end."""

pytestmark = [
    pytest.mark.browser,
    pytest.mark.real,
    pytest.mark.timeout(240),
    pytest.mark.asyncio(loop_scope="module"),
]


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def system(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Run]:
    folder = tmp_path_factory.mktemp("run")
    async with running(ROOT, Options(free_ports=True, fresh=True, run_dir=folder, environment=PACE)) as run:
        async with httpx2.AsyncClient(timeout=60, trust_env=False) as client:
            await place(client, run.url, 1)  # orders knows the menu
        yield run


async def order(page: Page, **how: Any) -> None:
    await checkout.order(page, "Margherita Verde", "Marinara", **how)


async def completed(page: Page) -> None:
    await expect(page.locator("#where")).to_have_text("All done. We hope it tasted good!", timeout=COOKED)
    await expect(page.locator(".steps .done")).to_have_count(7)
    times = page.locator(".steps time")
    await expect(times).to_have_count(7, timeout=COOKED)  # the last event of an order may arrive first
    shown = await times.all_text_contents()
    assert shown == sorted(shown)


@pytest.mark.parametrize("deliver", [False, True], ids=["collected", "delivered"])
async def test_a_pizza_is_ordered_watched_and_eaten(system: Run, visit: Open, deliver: bool) -> None:
    page = await visit(system.url("storefront"))
    await order(page, deliver=deliver)
    await completed(page)
    published = page.locator(".timeline")
    await expect(published).to_contain_text("It went into the oven.")
    await expect(published).to_contain_text("will bring it to you" if deliver else "It waits for you on shelf")
    await expect(published).to_contain_text("were taken from your card", timeout=COOKED)  # told after the end, too
    await page.get_by_role("link", name="My orders").click()
    await expect(page.locator(".history a")).to_contain_text("completed")


async def test_a_declined_card_is_explained_in_plain_words(system: Run, visit: Open) -> None:
    page = await visit(system.url("storefront"))
    await order(page, card="tok_declined")
    await expect(page.locator("#where")).to_have_text(re.compile("cancelled: the payment was refused"), timeout=COOKED)
    await expect(page.get_by_role("button", name="Order this again")).to_be_visible()


async def test_an_ingredient_runs_out_and_the_menu_shows_it(system: Run, visit: Open) -> None:
    page = await visit(system.url("storefront"))
    kitchen = page.context.request
    await kitchen.post(f"{system.url('kitchen')}/ingredients/artichoke/ran-out")
    card = page.locator("[data-sku=gluten-free-garden]")
    await expect(card).to_contain_text("Sold out: no artichoke", timeout=COOKED)  # without a reload
    await kitchen.post(f"{system.url('kitchen')}/ingredients/artichoke/delivered")
    await expect(card.get_by_role("button", name="Add")).to_be_visible(timeout=COOKED)


async def test_the_board_shows_an_order_on_its_way(system: Run, visit: Open) -> None:
    page = await visit(system.url("storefront"))
    board = await page.context.new_page()
    await board.goto(f"{system.url('storefront')}/board")
    await expect(board.locator(".link")).to_have_text("Live")
    await order(page)
    order_id = page.url.rpartition("/")[2]
    ticket = board.locator(f"[data-key='{order_id}']")
    await expect(ticket).to_have_attribute("data-stage", "completed", timeout=COOKED)


async def test_pizzas_are_ordered_and_made_while_half_of_the_house_is_away(system: Run, visit: Open) -> None:
    page = await visit(system.url("storefront"))
    await expect(page.get_by_role("article").first).to_be_visible()
    menu, loyalty, mail, tracking = map(system.stopped, ("menu", "loyalty", "notifications", "tracking"))
    async with menu, loyalty, mail, tracking:
        await page.reload()
        await expect(page.locator("#notices")).to_contain_text("ordering still works")
        await order(page)
        await expect(page.locator("#where")).to_have_text("All done. Enjoy your pizza!", timeout=COOKED)
    await page.reload()
    await completed(page)
    await expect(page.locator(".timeline")).to_contain_text("You earned", timeout=COOKED)


async def test_the_storefront_dies_and_the_page_goes_on(system: Run, visit: Open) -> None:
    page = await visit(system.url("storefront"))
    await order(page)
    await system.kill("storefront")
    await system.wait_ready("storefront")
    await completed(page)
