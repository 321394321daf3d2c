"""Ordering through the storefront's page, as people do."""

from __future__ import annotations

from playwright.async_api import Page


async def add(page: Page, *names: str) -> None:
    """Put pizzas into the basket."""
    for name in names:
        await page.get_by_role("button", name=f"Add {name} to the basket").click()


async def fill_in(page: Page, *, deliver: bool = False, card: str = "tok_ok") -> None:
    """Say who orders, where it goes and how it is paid."""
    await page.get_by_label("Your name").fill("Ada Lovelace")
    await page.get_by_label("E-mail").fill("ada@example.org")
    if deliver:
        await page.locator("#fulfilment-delivery").check()
        await page.get_by_label("Street and number").fill("Fig Lane 7")
        await page.get_by_label("Postcode").fill("10115")
        await page.get_by_label("City").fill("Berlin")
    await page.locator(f"#payment-{card}").check()


async def order(page: Page, *names: str, deliver: bool = False, card: str = "tok_ok") -> None:
    """Order pizzas, until the page of the order is there."""
    await add(page, *names)
    await page.get_by_role("button", name="Checkout").click()
    await fill_in(page, deliver=deliver, card=card)
    await page.get_by_role("button", name="Order now").click()
    await page.wait_for_url("**/orders/*")
