"""Ordering, following and cancelling on the storefront's page, also while services are unavailable."""

from __future__ import annotations

import re
from typing import Any

import pytest
from playwright.async_api import Page, expect
from tests.e2e.conftest import Open
from tests.support import checkout
from tests.support.checkout import add, fill_in
from tests.support.pizzeria import COMMON, PICKUP_CODE, Pizzeria

pytestmark = [pytest.mark.browser, pytest.mark.asyncio(loop_scope="module")]


async def order(page: Page, *names: str, **how: Any) -> str:
    """Order pizzas; answers the order's id, once the page follows it."""
    await checkout.order(page, *names, **how)
    await expect(page.locator(".link")).to_have_text("Live")
    return page.url.rpartition("/")[2]


def headline(page: Page) -> Any:
    return expect(page.locator("#where"))


def notice(page: Page) -> Any:
    return expect(page.locator("#notices"))


async def test_a_pizza_from_the_menu_to_the_door(pizzeria: Pizzeria, visit: Open) -> None:
    page = await visit(pizzeria.url)
    await expect(page.get_by_role("article")).to_have_count(len(pizzeria.menu))
    await add(page, "Margherita Verde", "Funghi e Timo")
    basket = page.get_by_role("complementary", name="Basket")
    await basket.get_by_role("button", name="One Funghi e Timo more").click()
    await expect(basket.locator(".sum")).to_contain_text("€33.70")
    await expect(page.get_by_role("link", name="Basket, 3 pizzas")).to_be_visible()

    await page.get_by_role("button", name="Checkout").click()
    await expect(page.get_by_role("heading", name="Checkout")).to_be_focused()
    await fill_in(page, deliver=True)
    await page.get_by_role("button", name="Order now").click()
    await page.wait_for_url("**/orders/*")
    ((key, sent),) = pizzeria.sent
    assert key
    assert sent == {
        "customer": {"name": "Ada Lovelace", "email": "ada@example.org"},
        "fulfilment": "delivery",
        "address": {"street": "Fig Lane 7", "postcode": "10115", "city": "Berlin"},
        "lines": [{"sku": "margherita", "quantity": 1}, {"sku": "funghi", "quantity": 2}],
        "paymentToken": "tok_ok",
    }

    order_id = page.url.rpartition("/")[2]
    await headline(page).to_have_text("We have your order.")
    seen = []
    for _ in range(11):
        stage = pizzeria.go_on(order_id)
        message = pizzeria.tracked[order_id]["message"]
        await headline(page).to_have_text(message)
        now = page.locator("[aria-current=step] b")
        seen.append((stage, await now.text_content() if await now.count() else None))
    assert seen == [
        ("paid", "Paid, going on"),
        ("confirmed", "Paid, going on"),
        ("preparing", "Being made, going on"),
        ("baking", "In the oven, going on"),
        ("baking", "In the oven, going on"),
        ("checked", "In the oven, going on"),
        ("boxed", "Boxed, going on"),
        ("driverAssigned", "Boxed, going on"),
        ("outForDelivery", "On its way, going on"),
        ("delivered", None),
        ("completed", None),
    ]
    await expect(page.locator(".steps time")).to_have_count(7)
    times = await page.locator(".steps time").all_text_contents()
    assert times == sorted(times)
    await expect(page.locator(".timeline li")).to_have_count(12)
    await expect(page.locator(".timeline li").first).to_contain_text("The order is complete.")
    await expect(page).to_have_title(re.compile("All done"))
    await expect(page.locator("#spoken")).to_contain_text("All done")
    await expect(page.get_by_role("button", name="Cancel")).to_have_count(0)

    await page.get_by_role("link", name="My orders").click()
    entry = page.locator(".history a")
    await expect(entry).to_contain_text(re.compile(r"1 . Margherita Verde, 2 . Funghi e Timo"))
    await expect(entry).to_contain_text("completed")
    await page.reload()
    await entry.click()
    await headline(page).to_have_text("All done. Enjoy!")


async def test_a_declined_card_is_shown_and_the_pizzas_are_ordered_again(pizzeria: Pizzeria, visit: Open) -> None:
    page = await visit(pizzeria.url)
    order_id = await order(page, "Marinara", card="tok_declined")
    assert pizzeria.sent[-1][1]["paymentToken"] == "tok_declined"
    pizzeria.cancel(order_id, "paymentRefused", "Your order was cancelled: the payment was refused.", "Try another.")
    await headline(page).to_have_text("Your order was cancelled: the payment was refused.")
    await expect(page.locator(".now .next")).to_have_text("Try another.")
    await expect(page.locator(".steps li.missed")).to_have_count(6)
    await page.get_by_role("button", name="Order this again").click()
    await expect(page.get_by_role("complementary", name="Basket")).to_contain_text("Marinara")
    await fill_in(page)
    await page.get_by_role("button", name="Order now").click()
    await page.wait_for_url("**/orders/*")
    first, second = pizzeria.sent
    assert first[0] != second[0]  # a new order, not the cancelled one again


async def test_the_customer_cancels(pizzeria: Pizzeria, visit: Open) -> None:
    page = await visit(pizzeria.url)
    order_id = await order(page, "Marinara")
    await page.get_by_role("button", name="Cancel the order").click()
    await page.get_by_role("button", name="Keep it").click()
    assert pizzeria.orders[order_id]["status"] == "placed"
    pizzeria.refusal = (409, "order o-1 can no longer be cancelled: the driver is on the way with it")
    await page.get_by_role("button", name="Cancel the order").click()
    await page.get_by_role("button", name="Yes, cancel it").click()
    await expect(page.get_by_role("alert")).to_contain_text("the driver is on the way with it")
    pizzeria.refusal = None
    await page.get_by_role("button", name="Cancel the order").click()
    await page.get_by_role("button", name="Yes, cancel it").click()
    await headline(page).to_have_text("Your order was cancelled, as you wished.")
    assert pizzeria.orders[order_id]["status"] == "cancelled"


async def test_missing_values_are_reported_at_their_location(pizzeria: Pizzeria, visit: Open) -> None:
    page = await visit(pizzeria.url)
    await add(page, "Marinara")
    await page.get_by_role("button", name="Checkout").click()
    await page.locator("#fulfilment-delivery").check()
    await page.get_by_label("E-mail").fill("ada")
    await page.get_by_role("button", name="Order now").click()
    await expect(page.get_by_label("Your name")).to_be_focused()
    for name in ("Your name", "E-mail", "Street and number", "Postcode", "City"):
        await expect(page.get_by_label(name)).to_have_attribute("aria-invalid", "true")
    await expect(page.get_by_label("E-mail")).to_have_accessible_description(re.compile("like ada@example.org"))
    await page.get_by_label("E-mail").fill("ada@example.org")
    await expect(page.get_by_label("E-mail")).not_to_have_attribute("aria-invalid", "true")
    await page.locator("#fulfilment-pickup").check()
    await expect(page.get_by_label("City")).to_be_hidden()
    assert pizzeria.sent == []


async def test_what_sells_out_meanwhile_is_taken_out_and_the_rest_ordered(pizzeria: Pizzeria, visit: Open) -> None:
    page = await visit(pizzeria.url)
    await add(page, "Diavola del Sol", "Marinara")
    await page.get_by_role("button", name="Checkout").click()
    await fill_in(page)
    pizzeria.sell_out("diavola", "seitan-salami")
    pizzeria.refusal = (409, "sold out: Diavola del Sol; choose something else, or try again later")
    await page.get_by_role("button", name="Order now").click()
    await expect(page.get_by_role("alert")).to_contain_text("Sold out: Diavola del Sol")
    await expect(page.get_by_text("Sold out: take it out to go on")).to_be_visible()
    await expect(page.get_by_role("button", name="Order now")).to_be_disabled()
    pizzeria.refusal = None
    await page.get_by_role("button", name="One Diavola del Sol fewer").click()
    await page.get_by_role("button", name="Order now").click()
    await page.wait_for_url("**/orders/*")
    assert pizzeria.sent[-1][1]["lines"] == [{"sku": "marinara", "quantity": 1}]
    await page.get_by_role("link", name="Menu", exact=True).click()
    await expect(page.locator("[data-sku=diavola]")).to_contain_text("Sold out: no seitan salami")


async def test_validation_errors_of_the_service_are_shown_at_the_field(pizzeria: Pizzeria, visit: Open) -> None:
    page = await visit(pizzeria.url)
    await add(page, "Marinara")
    await page.get_by_role("button", name="Checkout").click()
    await fill_in(page)

    async def wrong(route: Any) -> None:
        errors = [{"field": "body.customer.email", "message": "String should match pattern"}]
        await route.fulfill(status=422, json={"detail": "body.customer.email: does not fit", "errors": errors})

    await page.route("**/api/orders", wrong)
    await page.get_by_role("button", name="Order now").click()
    await expect(page.get_by_label("E-mail")).to_be_focused()
    await expect(page.get_by_label("E-mail")).to_have_attribute("aria-invalid", "true")


async def test_a_lost_answer_is_asked_for_again_and_the_order_placed_a_single_time(
    pizzeria: Pizzeria, visit: Open
) -> None:
    page = await visit(pizzeria.url)
    pizzeria.forgetful = True
    await order(page, "Marinara")
    first, second = pizzeria.sent
    assert first == second  # key and all
    assert len(pizzeria.orders) == 1


async def test_orders_away_the_basket_is_kept_until_it_is_back(pizzeria: Pizzeria, visit: Open) -> None:
    page = await visit(pizzeria.url)
    await add(page, "Marinara")
    await page.get_by_role("button", name="Checkout").click()
    await fill_in(page)
    await pizzeria.away("orders")
    await page.get_by_role("button", name="Order now").click()
    alert = page.get_by_role("alert")
    await expect(alert).to_contain_text("trying again")
    await notice(page).to_contain_text("New orders cannot be taken at the moment")
    await expect(alert).to_contain_text("Your order has not been placed.")
    await expect(alert).to_contain_text("Your basket is kept")
    await pizzeria.back("orders")
    await page.get_by_role("button", name="Try again").click()
    await page.wait_for_url("**/orders/*")
    await notice(page).not_to_contain_text("cannot be taken")
    assert len(pizzeria.orders) == 1


async def test_menu_away_ordering_works_from_the_menu_as_last_seen(pizzeria: Pizzeria, visit: Open) -> None:
    page = await visit(pizzeria.url)
    await expect(page.get_by_role("article")).to_have_count(len(pizzeria.menu))
    await pizzeria.away("menu")
    await page.reload()
    await expect(page.locator("[data-menu=old]")).to_contain_text("You can order all the same")
    await notice(page).to_contain_text("ordering still works")
    await order(page, "Marinara")
    assert len(pizzeria.orders) == 1
    await pizzeria.back("menu")
    await notice(page).to_contain_text("Everything is back.")


async def test_menu_away_at_the_first_visit(pizzeria: Pizzeria, visit: Open) -> None:
    await pizzeria.away("menu")
    page = await visit(pizzeria.url)
    await expect(page.locator("[data-menu=missing]")).to_contain_text("We keep trying.")


async def test_who_collects_an_order_is_shown_the_code_for_as_long_as_it_waits(pizzeria: Pizzeria, visit: Open) -> None:
    page = await visit(pizzeria.url)
    order_id = await order(page, "Marinara")
    pizzeria.go_on(order_id, len(COMMON))
    await headline(page).to_have_text("Your order is in its box.")
    await expect(page.locator(".now .code")).to_have_count(0)
    pizzeria.go_on(order_id)
    await expect(page.locator(".now")).to_contain_text("Your code at the counter")
    await expect(page.locator(".now .code b")).to_have_text(PICKUP_CODE)
    pizzeria.go_on(order_id)
    await expect(page.locator(".now .code")).to_have_count(0)


async def test_tracking_away_the_order_desk_is_asked(pizzeria: Pizzeria, visit: Open) -> None:
    page = await visit(pizzeria.url)
    order_id = await order(page, "Marinara")
    pizzeria.go_on(order_id, 1)
    await headline(page).to_have_text("Your payment went through.")
    await pizzeria.away("tracking")
    await notice(page).to_contain_text("Live progress cannot be shown at the moment; ordering still works")
    await expect(page.locator(".link")).to_have_text("Live view is away: asking the order desk")
    pizzeria.orders[order_id].update(status="preparing")
    await headline(page).to_have_text("Your pizza is being made.")
    pizzeria.go_on(order_id, 3)
    await pizzeria.back("tracking")
    await expect(page.locator(".link")).to_have_text("Live")
    await headline(page).to_have_text("Your order is in the oven.")
    assert pizzeria.resumed[0] is None
    assert pizzeria.resumed[-1] == "2"  # what was seen last
    await expect(page.locator(".timeline li")).to_have_count(5)


async def test_tracking_away_from_the_start(pizzeria: Pizzeria, visit: Open) -> None:
    await pizzeria.away("tracking")
    page = await visit(pizzeria.url)
    await add(page, "Marinara")
    await page.get_by_role("button", name="Checkout").click()
    await fill_in(page)
    await page.get_by_role("button", name="Order now").click()
    await page.wait_for_url("**/orders/*")
    await headline(page).to_have_text("We have your order.")
    pizzeria.orders[page.url.rpartition("/")[2]].update(
        status="cancelled", cancellation={"reason": "kitchenClosed", "stage": "confirmed", "at": "2026-11-23T19:00:00Z"}
    )
    await headline(page).to_have_text("The kitchen is closed: nobody is in to bake.")


async def test_offline_and_back(pizzeria: Pizzeria, visit: Open) -> None:
    page = await visit(pizzeria.url)
    order_id = await order(page, "Marinara")
    await page.context.set_offline(offline=True)
    await notice(page).to_contain_text("You are offline.")
    pizzeria.go_on(order_id, 3)
    await page.context.set_offline(offline=False)
    await notice(page).to_contain_text("Everything is back.")
    await headline(page).to_have_text("The kitchen is making it.")
    await notice(page).to_be_empty()


async def test_nothing_is_sent_without_watchers(pizzeria: Pizzeria, visit: Open) -> None:
    """A browser has six connections to a server: a tab that is not looked at must not keep one."""
    look = "(hidden) => { Object.defineProperty(document, 'hidden', {value: hidden, configurable: true}); \
        document.dispatchEvent(new Event('visibilitychange')); }"
    page = await visit(pizzeria.url)
    order_id = await order(page, "Marinara")
    await page.evaluate(look, True)
    await expect(page.locator(".link")).to_have_text("Paused")
    pizzeria.go_on(order_id, 3)
    await headline(page).to_have_text("We have your order.")
    await page.evaluate(look, False)
    await headline(page).to_have_text("The kitchen is making it.")
    assert pizzeria.resumed == [None, "1"]


async def test_a_stream_that_became_silent_is_reopened(pizzeria: Pizzeria, visit: Open) -> None:
    """Like a connection that a firewall has dropped: the browser does not learn that it is dead."""
    page = await visit(pizzeria.url)
    await page.clock.install()
    await order(page, "Marinara")
    assert pizzeria.resumed == [None]
    async with page.expect_response("**/stream"):
        await page.clock.run_for(50_000)
    assert pizzeria.resumed == [None, "1"]
    await expect(page.locator(".link")).to_have_text("Live")


async def test_two_tabs_have_one_basket(pizzeria: Pizzeria, visit: Open) -> None:
    page = await visit(pizzeria.url)
    other = await page.context.new_page()
    await other.goto(f"{pizzeria.url}/checkout")
    await add(page, "Marinara")
    await expect(other.get_by_role("complementary", name="Basket")).to_contain_text("Marinara")


async def test_an_order_has_at_most_a_hundred_pizzas(pizzeria: Pizzeria, visit: Open) -> None:
    page = await visit(pizzeria.url)
    await page.evaluate("localStorage.setItem('pizza.basket', JSON.stringify([{sku: 'marinara', quantity: 99}]))")
    await page.reload()
    basket = page.get_by_role("complementary", name="Basket")
    await basket.get_by_role("button", name="One Marinara more").click()
    await expect(basket).to_contain_text("100 pizzas")
    await expect(basket.get_by_role("button", name="One Marinara more")).to_be_disabled()


async def test_who_wants_to_be_remembered_is(pizzeria: Pizzeria, visit: Open) -> None:
    page = await visit(pizzeria.url)
    await add(page, "Marinara")
    await page.get_by_role("button", name="Checkout").click()
    await fill_in(page, deliver=True)
    await page.get_by_label("Remember me").check()
    await page.get_by_role("button", name="Order now").click()
    await page.wait_for_url("**/orders/*")
    await page.goto(f"{pizzeria.url}/checkout")
    await expect(page.get_by_label("City")).to_have_value("Berlin")
    await page.goto(f"{pizzeria.url}/orders")
    await page.get_by_role("button", name="Forget these orders").click()
    await expect(page.get_by_role("heading", name="No orders on this device yet")).to_be_visible()


async def test_nothing_of_a_stranger_is_kept(pizzeria: Pizzeria, visit: Open) -> None:
    page = await visit(pizzeria.url)
    await order(page, "Marinara")
    kept = await page.evaluate("JSON.stringify({...localStorage})")
    assert "ada@example.org" not in kept
    assert "Lovelace" not in kept


async def test_an_order_without_a_record(pizzeria: Pizzeria, visit: Open) -> None:
    page = await visit(f"{pizzeria.url}/orders/0193f0c4-6a2e-7c1b-9c52-00000000beef")
    await expect(page.get_by_role("heading", name="We know of no such order")).to_be_visible()


async def test_menu_data_is_always_shown_as_text(pizzeria: Pizzeria, visit: Open) -> None:
    pizzeria.item("marinara").update(name="<img src=x onerror=alert(1)>", ingredients=["kryptonite"], imageHint='"><b>')
    page = await visit(pizzeria.url)
    await expect(page.get_by_role("heading", name="<img src=x onerror=alert(1)>")).to_be_visible()
    await expect(page.locator("main img")).to_have_count(0)


async def test_the_board_shows_every_order_as_it_moves(pizzeria: Pizzeria, visit: Open) -> None:
    lines = [{"sku": "verdure", "quantity": 2}]
    customer = {"name": "Grace", "email": "grace@example.org"}
    ids = [f"0193f0c4-6a2e-7c1b-9c52-{number:012x}" for number in range(40)]
    for order_id in ids:
        pizzeria.add(order_id, {"customer": customer, "fulfilment": "delivery", "lines": lines})
    page = await visit(f"{pizzeria.url}/board")
    await expect(page.locator(".link")).to_have_text("Live")
    new, kitchen = (page.get_by_role("region", name=re.compile(f"^{name} ")) for name in ("New", "In the kitchen"))
    await expect(new.locator("h2")).to_have_text("New40")
    await expect(new).to_contain_text("and 28 more")
    for order_id in ids[:5]:
        pizzeria.go_on(order_id, 3)
    await expect(kitchen.locator(".ticket")).to_have_count(5)
    await expect(new.locator("h2")).to_have_text("New35")
    assert "Grace" not in await page.content()
    await kitchen.locator(".ticket").first.click()
    await headline(page).to_have_text("The kitchen is making it.")
    await page.go_back()
    await expect(kitchen.locator(".ticket")).to_have_count(5)


async def test_the_board_shows_that_tracking_is_unavailable(pizzeria: Pizzeria, visit: Open) -> None:
    page = await visit(f"{pizzeria.url}/board")
    await expect(page.locator(".link")).to_have_text("Live")
    await pizzeria.away("tracking")
    await expect(page.locator(".link")).to_have_text("Reconnecting…")
    await notice(page).to_contain_text("Live progress cannot be shown")
    await pizzeria.back("tracking")
    await expect(page.locator(".link")).to_have_text("Live")
