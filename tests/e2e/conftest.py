"""Chromium without network access, in front of simulated services."""

from __future__ import annotations

import shutil
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from typing import Any
from urllib.parse import urlsplit

import pytest
import pytest_asyncio
from playwright.async_api import Browser, ConsoleMessage, Page, async_playwright, expect
from tests.support.pizzeria import Pizzeria

from tidings_cli.testing.programs import Ports

OFF_THE_NETWORK = (
    "--no-sandbox",  # as root there is none
    "--disable-gpu",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)
PROGRAMS = ("chromium", "chromium-browser", "google-chrome")
PATIENCE = 60_000
"""Milliseconds that a page is given for anything: the machine may be busy."""
expect.set_options(timeout=PATIENCE)

Open = Callable[..., Awaitable[Page]]


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def browser() -> AsyncIterator[Browser]:
    program = next(filter(None, map(shutil.which, PROGRAMS)), None)
    if program is None:
        pytest.skip("NOT TESTED, no Chromium here: apt-get install chromium")
    async with async_playwright() as driver:
        running = await driver.chromium.launch(executable_path=program, args=list(OFF_THE_NETWORK))
        yield running
        await running.close()


@pytest_asyncio.fixture(loop_scope="module")
async def pizzeria() -> AsyncIterator[Pizzeria]:
    with Ports() as ports:
        open_shop = Pizzeria(ports)
        await open_shop.start()
        yield open_shop
        await open_shop.stop()


@pytest_asyncio.fixture(loop_scope="module")
async def visit(browser: Browser) -> AsyncIterator[Open]:
    """Open pages, each with a browser's memory of its own; none may fail, complain or ask anybody else."""
    wrong: list[str] = []

    async def open_page(url: str, **context: Any) -> Page:
        own = await stack.enter_async_context(await browser.new_context(timezone_id="UTC", **context))
        own.set_default_timeout(PATIENCE)
        page = await own.new_page()
        page.on("pageerror", lambda error: wrong.append(f"{error.name}: {error.message}\n{error.stack}"))
        page.on("console", lambda message: wrong.extend(_complaints(message)))
        page.on("request", lambda request: wrong.extend(_strangers(request.url, url)))
        await page.goto(url)
        return page

    async with AsyncExitStack() as stack:
        yield open_page
    assert wrong == []


def _complaints(message: ConsoleMessage) -> list[str]:
    """Return the errors of a page, without network errors, which tests may cause by stopping a service."""
    text = message.text
    return [text] if message.type in ("error", "warning") and "Failed to load resource" not in text else []


def _strangers(asked: str, url: str) -> list[str]:
    return [] if urlsplit(asked).netloc == urlsplit(url).netloc else [f"asked a stranger: {asked}"]
