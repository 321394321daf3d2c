"""Accessibility and layout of the storefront: contrast and names (axe), keyboard, widths, motion, drawings."""

from __future__ import annotations

import itertools
from typing import Any

import pytest
from axe_playwright_python.async_playwright import Axe  # type: ignore[import-untyped]
from playwright.async_api import Page, expect
from tests.e2e.conftest import Open
from tests.support.pizzeria import Pizzeria

pytestmark = [pytest.mark.browser, pytest.mark.asyncio(loop_scope="module")]

DESK = {"width": 1280, "height": 900}
PHONE = {"width": 390, "height": 844}
NARROW = {"width": 320, "height": 640}
CUSTOMER = {"name": "Grace", "email": "grace@example.org"}
BASKET = "localStorage.setItem('pizza.basket', JSON.stringify([{sku: 'marinara', quantity: 1}]))"


@pytest.fixture
def views(pizzeria: Pizzeria) -> list[str]:
    """Return every view, with something on it."""
    pizzeria.sell_out("diavola", "seitan-salami")
    ids = [f"0193f0c4-6a2e-7c1b-9c52-{number:012x}" for number in range(3)]
    for order_id in ids:
        lines = [{"sku": "verdure", "quantity": 2}]
        pizzeria.add(order_id, {"customer": CUSTOMER, "fulfilment": "delivery", "lines": lines})
    pizzeria.go_on(ids[0], 4)
    pizzeria.go_on(ids[1], 11)
    pizzeria.cancel(ids[2], "paymentRefused", "Your order was cancelled: the payment was refused.", "Try another card.")
    return ["/", "/checkout", "/orders", *(f"/orders/{order_id}" for order_id in ids), "/board", "/nowhere"]


async def settled(page: Page, view: str) -> None:
    """Wait until a view shows what it has to show."""
    if view == "/":
        await expect(page.locator("article .pizza").first).to_be_visible()
    elif view.startswith("/orders/"):
        await expect(page.locator(".steps")).to_be_visible()
        await expect(page.locator(".timeline li").first).to_be_visible()
    elif view == "/board":
        await expect(page.locator(".ticket")).to_have_count(3)


async def violations(page: Page) -> list[str]:
    completed = await Axe().run(page)
    return [
        f"{violation['id']} at {' '.join(node['target'])}: {node['failureSummary']}"
        for violation in completed.response["violations"]
        for node in violation["nodes"]
    ]


@pytest.mark.parametrize(("size", "scheme"), [(DESK, "dark"), (PHONE, "light")], ids=["desk-dark", "phone-light"])
async def test_axe_finds_nothing(
    pizzeria: Pizzeria, visit: Open, views: list[str], size: dict[str, int], scheme: str
) -> None:
    page = await visit(pizzeria.url, viewport=size, color_scheme=scheme, reduced_motion="reduce")
    await page.evaluate(BASKET)
    for view in views:
        await page.goto(pizzeria.url + view)
        await settled(page, view)
        assert await violations(page) == [], view
    await page.goto(f"{pizzeria.url}/checkout")
    await page.get_by_role("button", name="Order now").click()
    assert await violations(page) == []
    await page.goto(pizzeria.url + views[3])
    await page.get_by_role("button", name="Cancel the order").click()
    assert await violations(page) == []
    await pizzeria.away("menu")
    await page.goto(pizzeria.url)
    await expect(page.locator("#notices p")).to_be_visible()
    assert await violations(page) == []


@pytest.mark.parametrize("size", [NARROW, {"width": 820, "height": 1180}], ids=["phone", "tablet"])
async def test_no_view_is_wider_than_the_screen(
    pizzeria: Pizzeria, visit: Open, views: list[str], size: dict[str, int]
) -> None:
    page = await visit(pizzeria.url, viewport=size)
    await page.evaluate(BASKET)
    for view in views:
        await page.goto(pizzeria.url + view)
        await settled(page, view)
        assert await page.evaluate("document.documentElement.scrollWidth <= innerWidth"), view


async def test_a_pizza_is_ordered_without_a_mouse(pizzeria: Pizzeria, visit: Open) -> None:
    page = await visit(pizzeria.url)
    await expect(page.get_by_role("article").first).to_be_visible()

    async def tab_to(name: str, most: int = 60) -> None:
        for _ in range(most):
            await page.keyboard.press("Tab")
            if await page.evaluate("document.activeElement.ariaLabel ?? document.activeElement.textContent") == name:
                return
        raise AssertionError(f"the keyboard does not lead to {name!r}")

    await page.keyboard.press("Tab")
    await expect(page.get_by_role("link", name="Skip to content")).to_be_focused()
    await tab_to("Add Marinara to the basket")
    await page.keyboard.press("Enter")
    await expect(page.get_by_role("button", name="One Marinara more").first).to_be_focused()
    await page.keyboard.press("Enter")
    await page.keyboard.press("Shift+Tab")
    await page.keyboard.press("Enter")  # one fewer again, and the focus stays where it is
    await expect(page.get_by_role("button", name="One Marinara fewer").first).to_be_focused()
    await expect(page.locator("#spoken")).to_contain_text("Marinara in your basket")
    await tab_to("Checkout")
    await page.keyboard.press("Enter")
    await expect(page.get_by_role("heading", name="Checkout")).to_be_focused()
    await page.keyboard.press("Tab")
    await page.keyboard.type("Ada")
    await page.keyboard.press("Tab")
    await page.keyboard.type("ada@example.org")
    await page.keyboard.press("Enter")  # from within the form, as everywhere
    await page.wait_for_url("**/orders/*")
    assert pizzeria.sent[0][1]["lines"] == [{"sku": "marinara", "quantity": 1}]


async def test_the_last_one_taken_out_leaves_the_focus_where_it_can_be_put_in_again(
    pizzeria: Pizzeria, visit: Open
) -> None:
    page = await visit(pizzeria.url)
    await page.get_by_role("button", name="Add Marinara to the basket").press("Enter")
    await page.get_by_role("button", name="One Marinara fewer").first.press("Enter")
    await expect(page.get_by_role("button", name="Add Marinara to the basket")).to_be_focused()


async def test_nothing_moves_for_who_wants_no_motion(pizzeria: Pizzeria, visit: Open, views: list[str]) -> None:
    moving = "document.getAnimations().length"
    page = await visit(pizzeria.url, reduced_motion="no-preference")
    await settled(page, "/")
    assert await page.evaluate(moving) > 0
    await page.emulate_media(reduced_motion="reduce")
    for view in views:
        await page.goto(pizzeria.url + view)
        await settled(page, view)
        assert await page.evaluate(moving) == 0, view


async def test_colours_are_the_systems_or_the_visitors(pizzeria: Pizzeria, visit: Open) -> None:
    paper = "getComputedStyle(document.body).backgroundColor"
    page = await visit(pizzeria.url, color_scheme="dark")
    dark = await page.evaluate(paper)
    button = page.locator("#theme")
    await button.click()
    light = await page.evaluate(paper)
    assert light != dark
    await page.reload()
    assert await page.evaluate(paper) == light  # remembered
    await button.click()
    assert await page.evaluate(paper) == dark
    await expect(button).to_have_accessible_name("Colours: dark. Change to system")


async def test_allergens_are_left_out_on_request(pizzeria: Pizzeria, visit: Open) -> None:
    page = await visit(pizzeria.url)
    await page.get_by_role("button", name="No gluten").click()
    await expect(page.get_by_role("article")).to_have_count(1)
    await expect(page.get_by_role("article")).to_contain_text("Garden without Gluten")
    await expect(page.get_by_role("button", name="No gluten")).to_have_attribute("aria-pressed", "true")
    await expect(page.locator("#spoken")).to_have_text("1 pizza without gluten")


async def module(page: Page, path: str, expression: str, *arguments: Any) -> Any:
    """Call into one of the page's modules."""
    call = f"async (given) => {{ const m = await import('/assets/js/{path}'); return ({expression})(m, ...given); }}"
    return await page.evaluate(call, list(arguments))


async def test_every_pizza_has_a_face_of_its_own_and_keeps_it(pizzeria: Pizzeria, visit: Open) -> None:
    page = await visit(pizzeria.url)
    draw = "(m, item) => m.pizza(item).outerHTML.replaceAll(/pizza\\d+/g, '')"
    first = [await module(page, "pizza.js", draw, item) for item in pizzeria.menu]
    again = [await module(page, "pizza.js", draw, item) for item in pizzeria.menu]
    assert first == again
    assert len(set(first)) == len(first)
    assert all(item["imageHint"] in face for item, face in zip(pizzeria.menu, first, strict=True))


async def test_every_ingredient_is_drawn(pizzeria: Pizzeria, visit: Open) -> None:
    """Without one of them a pizza looks different, whatever it is called."""
    page = await visit(pizzeria.url)
    count = "(m, item) => m.pizza(item).querySelectorAll('*').length"
    for item in [*pizzeria.menu, {**pizzeria.menu[0], "ingredients": ["wheat-dough", "kohlrabi"]}]:
        whole = await module(page, "pizza.js", count, item)
        for name in item["ingredients"]:
            if name.endswith(("-dough", "-sauce", "-cream", "-pesto")):
                continue  # a colour, not a shape
            rest = [other for other in item["ingredients"] if other != name]
            assert await module(page, "pizza.js", count, {**item, "ingredients": rest}) != whole, name


async def test_events_are_understood_however_they_are_cut(pizzeria: Pizzeria, visit: Open) -> None:
    page = await visit(f"{pizzeria.url}/nowhere")
    published = [
        ": hello",
        "",
        "retry: 3000",
        "event: order",
        "id: 7",
        "data: {",
        'data:"a": 1}',
        "",
        "data: x",
        "",
        "data: cut",
    ]
    collect = (
        "async (m, chunks) => { const all = []; for await (const f of m.frames(chunks)) all.push(f); return all; }"
    )
    for end, size in itertools.product(("\n", "\r\n", "\r"), (1, 2, 3, 7, 1000)):
        text = "".join(line + end for line in published)
        chunks = [text[start : start + size] for start in range(0, len(text), size)]
        assert await module(page, "live.js", collect, chunks) == [
            {"event": "order", "id": "7", "retry": 3000, "data": '{\n"a": 1}'},
            {"event": "message", "id": None, "retry": None, "data": "x"},
        ], (end, size)


STAGES = ("placed", "paid", "confirmed", "preparing", "baking", "checked", "boxed")
PICKUP = (*STAGES, "shelved", "collected", "completed")
DELIVERY = (*STAGES, "driverAssigned", "outForDelivery", "delivered", "completed")


@pytest.mark.parametrize(("fulfilment", "way"), [("pickup", PICKUP), ("delivery", DELIVERY)])
async def test_what_is_shown_never_goes_back(
    pizzeria: Pizzeria, visit: Open, fulfilment: str, way: tuple[str, ...]
) -> None:
    """The page shows the later of the stages from tracking and orders, for every pair."""
    page = await visit(f"{pizzeria.url}/nowhere")
    published = [
        {"stage": stage, "fulfilment": fulfilment, "finished": stage == "completed", "timeline": [], "lines": []}
        for stage in way
    ]
    merge = "(m, all) => all.map((one) => all.map((other) => m.merge(one, other).stage))"
    step = "(m, all) => all.map((told) => m.steps(told).findLastIndex(({state}) => state !== 'ahead'))"
    shown = await module(page, "words.js", merge, published)
    steps = dict(zip(way, await module(page, "words.js", step, published), strict=True))
    for one, row in zip(way, shown, strict=True):
        for other, stage in zip(way, row, strict=True):
            assert steps[stage] == max(steps[one], steps[other]), (one, other)
    assert [steps[stage] for stage in way] == sorted(steps[stage] for stage in way)
