"""Take the screenshots of the documentation from a real system with orders and some unreadable events.

    python scenarios/pictures.py            # all of them, into docs/images
    python scenarios/pictures.py console    # those whose names start with this

Needs Chromium on PATH. Apart from ids and times, the pictures are the same in each run.
"""

import argparse
import asyncio
import json
import random
import shutil
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx2
from ordering import an_order, menu, place
from playwright.async_api import Browser, Page, ViewportSize, async_playwright, expect

from tidings.messages.envelope import new_id, timestamp
from tidings_cli.up.errors import UpError
from tidings_cli.up.run import Run, running
from tidings_cli.up.system import Options

ROOT = Path(__file__).resolve().parent.parent
IMAGES = ROOT / "docs/images"
PROGRAMS = ("chromium", "chromium-browser", "google-chrome")
PACE = {"KITCHEN_PACE": "1.5", "PICKUP_PACE": "600", "DELIVERY_PACE": "4"}
ORDERS = 14
UNREADABLE = (
    ("kitchen.pizzaBoxed", {"orderId": None, "fulfilment": "pickup", "boxes": "two"}),
    ("orders.orderCompleted", {"orderId": 17}),
)
"""Events of a faulty producer that their consumers cannot read."""
POINTS = 'li:has-text("loyalty.pointsAdded")'
PATIENCE = 120_000
"""Timeout of a page in milliseconds."""


@dataclass(frozen=True, slots=True)
class Picture:
    """A page to take a screenshot of: once the selector `ready` is visible, after `act` has prepared it."""

    name: str
    service: str
    path: str
    ready: str
    width: int = 1240
    height: int = 820
    dark: bool = False
    phone: bool = False
    act: Callable[[Page], Awaitable[None]] | None = None


async def _fill_basket(page: Page) -> None:
    for name in ("Margherita Verde", "Marinara"):
        await page.get_by_role("button", name=f"Add {name} to the basket").click()
    await page.evaluate("scrollTo(0, 0)")


async def _rehearse(page: Page) -> None:
    await page.get_by_label("Consumer").select_option("loyalty")
    await page.get_by_role("button", name="Dry run").click()
    await expect(page.locator(".dry")).to_be_visible()


def pictures(order: str, waiting: str) -> list[Picture]:
    """Return all pictures, for an order in progress and one waiting on its shelf."""
    return [
        Picture(
            "storefront-order", "storefront", f"/orders/{order}", ".timeline [data-type='kitchen.preparationStarted']"
        ),
        Picture("storefront-menu", "storefront", "/", ".menu li button", act=_fill_basket),
        Picture("storefront-order-phone-dark", "storefront", f"/orders/{waiting}", ".now .code", dark=True, phone=True),
        Picture("storefront-board-dark", "storefront", "/board", "main article, main li", dark=True),
        Picture("console-map", "archive", "/console", '.line[data-flow="slow"]', height=900),
        Picture("console-phone-dark", "archive", "/console", ".box", dark=True, phone=True),
        Picture(
            "console-story-dark", "archive", f"/console/events?correlationId={order}", POINTS, height=1000, dark=True
        ),
        Picture("console-dead-letters", "archive", "/console/dead-letters", ".letter", height=900),
        Picture("console-replay", "archive", "/console/replays", ".kinds label", height=900, act=_rehearse),
    ]


@asynccontextmanager
async def chromium() -> AsyncIterator[Browser]:
    """Start the browser.

    Raises:
        UpError: Chromium is not on PATH.

    """
    program = next(filter(None, map(shutil.which, PROGRAMS)), None)
    if program is None:
        raise UpError("no Chromium is on PATH: apt-get install chromium")
    async with async_playwright() as driver:
        browser = await driver.chromium.launch(executable_path=program, args=["--no-sandbox", "--disable-gpu"])
        yield browser
        await browser.close()


async def shoot(browser: Browser, url: str, picture: Picture) -> None:
    """Take a screenshot."""
    size = (
        ViewportSize(width=390, height=844)
        if picture.phone
        else ViewportSize(width=picture.width, height=picture.height)
    )
    context = await browser.new_context(
        viewport=size,
        color_scheme="dark" if picture.dark else "light",
        is_mobile=picture.phone,
        has_touch=picture.phone,
        reduced_motion="reduce",
        timezone_id="UTC",
        locale="en-GB",
    )
    page = await context.new_page()
    await page.goto(url + picture.path)
    await expect(page.locator(picture.ready).first).to_be_visible(timeout=PATIENCE)
    if picture.act:
        await picture.act(page)
    await page.wait_for_timeout(1500)  # for numbers that are updated periodically
    await page.screenshot(path=IMAGES / f"{picture.name}.png")
    await context.close()
    print(f"docs/images/{picture.name}.png")  # noqa: T201 - the program's output


async def spoil(run: Run, client: httpx2.AsyncClient) -> None:
    """Publish unreadable events like a faulty producer, without the SDK."""
    headers = {"Content-Type": "application/cloudevents+json", "dapr-api-token": run.state.dapr_api_token}
    for number, (kind, data) in enumerate(UNREADABLE):
        producer = run.url(f"{kind.partition('.')[0]}.daprd")  # the scopes allow only this producer
        event: dict[str, Any] = {
            "specversion": "1.0",
            "id": new_id(),
            "type": kind,
            "version": "1",
            "source": "a-script",
            "subject": f"order-{number}",
            "correlationid": new_id(),
            "time": timestamp(),
            "datacontenttype": "application/json",
            "data": data,
        }
        answer = await client.post(
            f"{producer}/v1.0/publish/pubsub/{kind}.v1", content=json.dumps(event), headers=headers
        )
        answer.raise_for_status()


async def _an_order(client: httpx2.AsyncClient, run: Run, fulfilment: str) -> str:
    body = an_order(int(fulfilment == "delivery"), await menu(client, run.url), random.Random(7))  # noqa: S311 - a picture
    answer = await client.post(f"{run.url('orders')}/orders", json=body)
    return str(answer.raise_for_status().json()["orderId"])


async def main(prefix: str) -> None:
    """Start a system, create activity, and take the screenshots."""
    with tempfile.TemporaryDirectory() as folder:
        options = Options(free_ports=True, fresh=True, run_dir=Path(folder), environment=PACE)
        async with (
            running(ROOT, options) as run,
            httpx2.AsyncClient(timeout=20, trust_env=False) as client,
            chromium() as browser,
        ):
            await place(client, run.url, ORDERS, concurrency=2)
            await spoil(run, client)
            waiting = await _an_order(client, run, "pickup")
            order = await _an_order(client, run, "delivery")
            for picture in pictures(order, waiting):
                if picture.name.startswith(prefix):
                    await shoot(browser, run.url(picture.service), picture)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("prefix", nargs="?", default="", help="take only pictures whose names start with this")
    asyncio.run(main(parser.parse_args().prefix))
