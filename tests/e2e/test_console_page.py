"""The console's pages in Chromium, on a real archive: watching, searching and deciding."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
import sqlalchemy as sa
from axe_playwright_python.async_playwright import Axe  # type: ignore[import-untyped]
from playwright.async_api import Locator, Page, expect
from pydantic import SecretStr
from tests.e2e.conftest import PATIENCE, Open
from tests.support.newsroom import DELIVERY, Newsroom
from tests.support.personal import PLACED, USER_HEADER, receive_personal_event
from tests.support.subject_keys import keys_in_use

from tidings_archive.events import Owner, SubscriptionFailed
from tidings_archive.settings import ArchiveSettings
from tidings_archive.tables import dead_letters
from tidings_archive.tables import notices as sent_notices
from tidings_cli.up.files import write_private

pytestmark = [pytest.mark.browser, pytest.mark.asyncio(loop_scope="module")]

PHONE = {"viewport": {"width": 390, "height": 844}, "has_touch": True, "is_mobile": True}
SHELF = {"failuresubscription": "pickup-pizza-boxed"}
BOXED = "kitchen.pizzaBoxed.v1"


@pytest_asyncio.fixture(loop_scope="module")
async def newsroom(tmp_path: Path) -> AsyncIterator[Newsroom]:
    async with Newsroom.opened(tmp_path) as room:
        yield room


def box(page: Page, name: str) -> Locator:
    return page.locator(f'[data-service="{name}"]')


def line(page: Page, way: str) -> Locator:
    return page.locator(f'[data-line="{way}"]')


def figure(page: Page, name: str) -> Locator:
    return page.locator(".figures div", has=page.get_by_text(name, exact=True)).locator("dd")


# -- map --------------------------------------------------------------------------------------------------------------


async def test_the_map_shows_event_flows_and_current_activity(newsroom: Newsroom, visit: Open) -> None:
    page = await visit(newsroom.url)
    await expect(page.locator(".live")).to_have_text("Live")
    await expect(page.locator(".box")).to_have_count(10)
    await expect(line(page, "kitchen pickup")).to_have_attribute("data-flow", "none")
    await expect(line(page, "orders archive")).to_have_count(0)

    await newsroom.receive(BOXED)
    await newsroom.receive(BOXED)
    await expect(line(page, "kitchen pickup")).to_have_attribute("data-flow", "slow")
    await expect(line(page, "kitchen pickup").locator("text")).to_have_text("2")
    await expect(line(page, "payments orders")).to_have_attribute("data-flow", "none")
    await expect(box(page, "kitchen")).to_contain_text("2 a minute")
    await expect(figure(page, "events in the last minute")).to_have_text("2")

    await page.get_by_label("Show consumers of all events").check()
    await expect(line(page, "orders archive")).to_have_count(1)


async def test_a_service_is_chosen_by_keyboard_and_reports_what_it_publishes_and_reads(
    newsroom: Newsroom, visit: Open
) -> None:
    await newsroom.receive(BOXED)
    page = await visit(newsroom.url)
    panel = page.get_by_role("complementary", name="Details of the selection")
    await expect(panel).to_contain_text("Current activity")
    await box(page, "kitchen").focus()
    await page.keyboard.press("Enter")
    await expect(box(page, "kitchen")).to_have_attribute("aria-pressed", "true")
    await expect(panel.get_by_role("heading", name="kitchen")).to_be_visible()
    await expect(panel.locator("li", has_text="pizzaBoxed")).to_contain_text("1")
    await expect(panel.locator("li", has_text="memberClockedIn")).to_contain_text("unread")
    await expect(panel.locator("li", has_text="orderConfirmed")).to_contain_text("v2")
    await expect(box(page, "loyalty")).to_have_class(re.compile("faded"))
    await page.keyboard.press("Escape")
    await expect(panel).to_contain_text("Current activity")
    await line(page, "orders payments").locator(".pill").click()
    await expect(panel.locator("li", has_text="takePayment")).to_contain_text("command")


async def test_a_dead_letter_shows_up_on_the_map_and_in_the_menu(newsroom: Newsroom, visit: Open) -> None:
    page = await visit(newsroom.url)
    await expect(figure(page, "open dead letters")).to_have_text("0")
    await newsroom.died("pickup", BOXED, "no free shelf", **SHELF)
    await expect(box(page, "pickup").locator(".dead text")).to_have_text("1")
    await expect(box(page, "pickup")).to_have_accessible_name(re.compile("1 open dead letter"))
    await expect(page.get_by_role("link", name="Dead letters 1 open")).to_be_visible()
    await page.get_by_role("link", name="1 dead letter", exact=True).click()
    await page.wait_for_url("**/console/dead-letters?app=pickup")
    await expect(page.get_by_role("heading", name="Dead letters")).to_be_focused()


async def test_the_table_of_types_is_filtered(newsroom: Newsroom, visit: Open) -> None:
    page = await visit(newsroom.url)
    rows = page.locator("tbody tr")
    await expect(rows).to_have_count(12)
    await page.get_by_role("button", name=re.compile(r"Show all \d+ types")).click()
    await expect(rows).to_have_count(len(json.loads(newsroom.map.read_text())["types"]))
    await page.get_by_label("Filter types").fill("orderconfirmed")
    await expect(rows).to_have_count(1)
    await expect(rows).to_contain_text("v1 deprecated")
    await expect(rows.locator("td").nth(1)).to_contain_text("kitchen")


async def test_without_a_map_the_page_shows_how_to_add_one(newsroom: Newsroom, visit: Open) -> None:
    newsroom.map.unlink()
    page = await visit(newsroom.url)
    await expect(page.get_by_role("heading", name="No system map")).to_be_visible()
    await expect(page.locator(".canvas")).to_contain_text("tidings render -o map")


async def test_subscriptions_show_owner_contact_lag_and_deprecated_versions(
    newsroom: Newsroom, visit: Open, tmp_path: Path
) -> None:
    drawn: dict[str, Any] = json.loads(newsroom.map.read_text())
    first = next(each for each in drawn["subscriptions"] if each["name"] == "pickup-pizza-boxed")
    first |= {"owner": "counter", "contact": "counter@pizza.example", "suspended": True}
    first["reads"]["orders.orderConfirmed"] = ["v1"]
    drawn["deprecated"][0]["readers"] = [{"app": "pickup", "subscription": "pickup-pizza-boxed"}]
    second = next(each for each in drawn["subscriptions"] if each["app"] == "loyalty")
    second |= {"owner": "<b>loyal</b>", "contact": "javascript:alert(1)"}
    newsroom.map.write_text(json.dumps(drawn))
    page = await visit(f"{newsroom.url}/subscriptions")
    rows = page.locator("tbody tr")
    await expect(rows).to_have_count(len(drawn["subscriptions"]))
    row = rows.filter(has_text="pickup-pizza-boxed")
    await expect(row).to_contain_text("suspended")
    await expect(row).to_contain_text("team counter, counter@pizza.example")
    await expect(row.get_by_role("link", name="counter@")).to_have_attribute("href", "mailto:counter@pizza.example")
    await expect(row).to_contain_text("v1 deprecated")
    await expect(row).to_contain_text("not measured")
    stranger = rows.filter(has_text="<b>loyal</b>")
    await expect(stranger).to_contain_text("team <b>loyal</b>, javascript:alert(1)")
    await expect(stranger.locator("a")).to_have_count(1)

    lag = tmp_path / "state.json"
    newsroom.settings = ArchiveSettings(map=newsroom.map, lag=str(lag))
    lag.write_text('{"broker_lag": {"pickup": 1234}, "phase": "ready"}')
    await expect(row).to_contain_text("1,234")
    await page.get_by_label("Only those that read deprecated versions").check()
    await expect(rows).to_have_count(1)
    await page.get_by_label("Find subscriptions").fill("Counter")
    await page.wait_for_url("**/console/subscriptions?q=Counter&deprecated=yes")
    other = await visit(page.url)
    await expect(other.locator("tbody tr")).to_have_count(1)
    await expect(other.get_by_label("Find subscriptions")).to_have_value("Counter")
    await other.get_by_role("link", name="Dead letters of pickup-pizza-boxed").click()
    await other.wait_for_url("**/console/dead-letters?app=pickup&subscription=pickup-pizza-boxed")


async def test_deliveries_to_a_subscription_are_paused_and_resumed(
    newsroom: Newsroom, visit: Open, tmp_path: Path
) -> None:
    folder = tmp_path / "suspended"
    folder.mkdir()
    newsroom.settings = ArchiveSettings(map=newsroom.map, suspensions=str(folder), token=SecretStr("s3cret"))
    page = await visit(f"{newsroom.url}/subscriptions")
    row = page.locator("tbody tr").filter(has_text="pickup-pizza-boxed")
    drawn: dict[str, Any] = json.loads(newsroom.map.read_text())
    entry = next(each for each in drawn["subscriptions"] if each["name"] == "pickup-pizza-boxed")

    async def local_run() -> None:
        """Do what `tidings up` does with the folder."""
        while True:
            entry["suspended"] = (folder / entry["name"]).exists()
            write_private(newsroom.map, json.dumps(drawn))
            await asyncio.sleep(0.05)

    task = asyncio.create_task(local_run())
    for label, shown in (("Pause", 1), ("Resume", 0)):
        await row.get_by_role("button", name=f"{label} deliveries to pickup-pizza-boxed").click()
        dialog = page.get_by_role("dialog")
        await dialog.get_by_label("Your name").fill("ada")
        if await dialog.get_by_label("Access token").is_visible():
            await dialog.get_by_label("Access token").fill("s3cret")
        await dialog.get_by_role("button", name=f"{label} deliveries").click()
        await expect(dialog).to_be_hidden()
        await expect(row.get_by_text("suspended")).to_have_count(shown)
    task.cancel()
    await page.get_by_role("link", name="Audit").click()
    await expect(page.locator(".audit li")).to_have_count(2)
    await expect(page.locator(".audit li").first).to_contain_text("resumed subscription/pickup-pizza-boxed")


async def test_an_archive_that_cannot_pause_deliveries_says_why(newsroom: Newsroom, visit: Open) -> None:
    page = await visit(f"{newsroom.url}/subscriptions")
    await expect(page.get_by_text("Deliveries cannot be paused here")).to_contain_text("ARCHIVE_SUSPENSIONS")
    await expect(page.get_by_role("button", name=re.compile("deliveries"))).to_have_count(0)


async def test_what_a_view_shows_is_in_its_address(newsroom: Newsroom, visit: Open) -> None:
    page = await visit(newsroom.url)
    await box(page, "kitchen").click()
    await page.get_by_label("Show consumers of all events").check()
    await page.get_by_label("Filter types").fill("orderconfirmed")
    await page.wait_for_url("**/console?chosen=kitchen&everything=yes&types=orderconfirmed")
    other = await visit(page.url)
    await expect(box(other, "kitchen")).to_have_attribute("aria-pressed", "true")
    await expect(other.get_by_role("complementary", name="Details of the selection")).to_contain_text("kitchen")
    await expect(line(other, "orders archive")).to_have_count(1)
    await expect(other.locator("tbody tr")).to_have_count(1)

    await page.goto(f"{newsroom.url}/replays?consumer=tracking&type=orders.orderPlaced.v1")
    await page.get_by_label("orders.orderCompleted.v1").check()
    await page.get_by_label("Happened from").fill("2020-01-02T03:04:05")
    await page.get_by_label("Events per second, at most").fill("7")
    await page.get_by_role("button", name="Dry run").click()
    await expect(page.locator(".dry")).to_be_visible()
    await page.wait_for_url("**&rate=7")
    await other.goto(page.url)
    await expect(other.get_by_label("orders.orderPlaced.v1")).to_be_checked()
    await expect(other.get_by_label("orders.orderCompleted.v1")).to_be_checked()
    await expect(other.get_by_label("Happened from")).to_have_value("2020-01-02T03:04:05")
    await expect(other.get_by_label("Events per second, at most")).to_have_value("7")


# -- events -----------------------------------------------------------------------------------------------------------


async def test_one_correlation_is_shown_as_a_story(newsroom: Newsroom, visit: Open) -> None:
    await newsroom.order("c-1")
    await newsroom.order("c-2")
    page = await visit(f"{newsroom.url}/events")
    await page.get_by_label("Correlation id").fill("c-1")
    await page.keyboard.press("Enter")
    await page.wait_for_url("**/console/events?correlationId=c-1")
    rows = page.locator(".timeline > li")
    await expect(rows).to_have_count(len(DELIVERY))
    await expect(page.locator(".summary")).to_contain_text("18 events of 6 services in 9.90 s")
    shown = [text.strip() for text in await rows.locator(".what b").all_text_contents()]
    assert shown == [topic.rpartition(".v")[0] for topic, _ in DELIVERY]
    await expect(rows.nth(1).locator("time")).to_have_text("+12 ms")
    await expect(rows.nth(1)).to_contain_text("after orders.orderPlaced")

    picture = page.get_by_role("img", name=re.compile("18 events of 6 services"))
    await expect(picture.locator(".spot")).to_have_count(len(DELIVERY))
    await expect(picture.locator(".cause")).to_have_count(len(DELIVERY) - 1)
    assert await picture.locator(".lane-name").all_text_contents() == [
        "orders", "payments", "notifications", "kitchen", "delivery", "loyalty",
    ]  # fmt: skip
    await picture.locator(".spot").last.click()
    await expect(rows.last.locator("summary")).to_be_focused()
    await expect(rows.last.get_by_label("JSON")).to_contain_text("points")


async def test_events_are_filtered_by_type_and_text_and_new_ones_appear(newsroom: Newsroom, visit: Open) -> None:
    await newsroom.receive("orders.orderPlaced.v1", subject="order-1")
    await newsroom.receive("orders.orderCompleted.v1", subject="order-1")
    page = await visit(f"{newsroom.url}/events")
    rows = page.locator(".events > li")
    await expect(rows).to_have_count(2)
    await expect(rows.first).to_contain_text("orders.orderCompleted")
    await page.get_by_text("More filters").click()
    await page.get_by_label("Type").fill("orders.orderPlaced")
    await page.get_by_role("button", name="Find").click()
    await expect(rows).to_have_count(1)
    await rows.first.locator("summary").click()
    await newsroom.receive("orders.orderPlaced.v1", subject="order-2")
    await expect(rows).to_have_count(2)
    await expect(rows.last.get_by_label("JSON")).to_be_visible()  # stays open

    await page.get_by_label("Type").fill("no type")
    await page.get_by_role("button", name="Find").click()
    await expect(page.get_by_role("alert")).to_contain_text("is no type")
    await page.goto(f"{newsroom.url}/events?subject=order-2")
    await expect(rows).to_have_count(1)
    await page.goto(f"{newsroom.url}/events?q=nowhere-to-be-found")
    await expect(page.get_by_role("heading", name="Nothing found")).to_be_visible()


async def test_more_than_a_page_is_asked_for(newsroom: Newsroom, visit: Open) -> None:
    for _ in range(55):
        await newsroom.receive(BOXED)
    page = await visit(f"{newsroom.url}/events")
    rows = page.locator(".events > li")
    await expect(rows).to_have_count(50)
    await page.get_by_role("button", name="Older").click()
    await expect(rows).to_have_count(55)
    await expect(page.get_by_role("button", name="Older")).to_have_count(0)
    await newsroom.receive(BOXED)
    await expect(rows).to_have_count(56)  # none lost between the pages


async def test_event_data_is_always_shown_as_text(newsroom: Newsroom, visit: Open) -> None:
    await newsroom.receive(BOXED, subject="<img src=x onerror=alert(1)>", correlationid='"><script>')
    await newsroom.died("pickup", BOXED, "<img src=x onerror=alert(2)>", **SHELF)
    page = await visit(f"{newsroom.url}/events")
    await expect(page.locator(".events > li")).to_contain_text("<img src=x onerror=alert(1)>")
    await page.goto(f"{newsroom.url}/dead-letters")
    await expect(page.locator(".reason")).to_contain_text("<img src=x onerror=alert(2)>")
    await expect(page.locator("main img")).to_have_count(0)


# -- dead letters -----------------------------------------------------------------------------------------------------


async def test_a_dead_letter_is_sent_again_after_a_dry_run_and_who_did_it_is_written_down(
    newsroom: Newsroom, visit: Open
) -> None:
    died = await newsroom.died("pickup", BOXED, "no free shelf: all 12 are taken", **SHELF)
    page = await visit(f"{newsroom.url}/dead-letters")
    letter = page.get_by_role("article", name=re.compile("kitchen.pizzaBoxed"))
    await expect(letter).to_contain_text("Rejected: no free shelf: all 12 are taken")
    await expect(letter).to_contain_text("6 attempts")
    await letter.get_by_role("button", name="Send again").click()
    dialog = page.get_by_role("dialog", name="Send 1 event again?")
    await expect(dialog).to_contain_text("Dry run: 1 event would go to")
    await expect(dialog).to_contain_text("on replay.pickup")
    await dialog.get_by_role("button", name="Send again").click()
    await expect(dialog).to_contain_text("Enter your name")
    await expect(dialog.get_by_label("Your name")).to_be_focused()
    await page.keyboard.press("Escape")
    await expect(dialog).to_have_count(0)

    await letter.get_by_role("button", name="Send again").click()
    await dialog.get_by_label("Your name").fill("Ada")
    await dialog.get_by_role("button", name="Send again").click()
    await expect(page.get_by_role("heading", name="No open dead letters")).to_be_visible()
    [sent] = await newsroom.sent("pickup", 1)
    assert (sent["id"], sent["replayto"], sent["data"]) == (died["id"], "pickup-pizza-boxed", died["data"])
    await page.get_by_role("link", name="Sent again").click()
    await page.get_by_role("button", name="Details").click()
    await expect(page.locator(".letter .audit")).to_contain_text("Ada")


async def test_several_are_discarded_with_a_reason(newsroom: Newsroom, visit: Open) -> None:
    await newsroom.died("pickup", BOXED, "no free shelf", **SHELF)
    await newsroom.died("pickup", BOXED, "no free shelf", **SHELF)
    await newsroom.died("loyalty", "orders.orderCompleted.v1", "unknown tier", failuresubscription="l")
    page = await visit(f"{newsroom.url}/dead-letters")
    await expect(page.locator(".letter")).to_have_count(3)
    await expect(page.get_by_role("button", name="Discard selected")).to_be_disabled()
    await page.get_by_label("Service", exact=True).select_option("pickup")
    await expect(page.locator(".letter")).to_have_count(2)
    await page.get_by_label("Select all shown").check()
    await page.get_by_role("button", name="Discard selected").click()
    dialog = page.get_by_role("dialog", name="Discard 2 dead letters?")
    await dialog.get_by_label("Your name").fill("Ada")
    await dialog.get_by_role("button", name="Discard").click()
    await expect(dialog.get_by_label("Reason")).to_be_focused()
    await dialog.get_by_label("Reason").fill("the shop was closed")
    await dialog.get_by_role("button", name="Discard").click()
    await expect(page.get_by_role("heading", name="No open dead letters")).to_be_visible()
    await expect(page.get_by_role("link", name="Dead letters 1 open")).to_be_visible()
    await page.locator(".deeds summary").click()
    await expect(page.locator(".deeds li").first).to_contain_text("the shop was closed")
    await expect(page.locator(".deeds li")).to_have_count(2)


async def test_events_dead_lettered_by_the_sidecar_are_replayed_to_the_chosen_consumer(
    newsroom: Newsroom, visit: Open
) -> None:
    await newsroom.died("pickup", BOXED, "", failuresubscription="")
    page = await visit(f"{newsroom.url}/dead-letters")
    await page.get_by_role("button", name="Send again").click()
    dialog = page.get_by_role("dialog")
    await dialog.get_by_label("The failed subscription is unknown").select_option("pickup-pizza-boxed")
    await expect(dialog).to_contain_text("1 event would go to")
    await dialog.get_by_label("Your name").fill("Ada")
    await dialog.get_by_role("button", name="Send again").click()
    [sent] = await newsroom.sent("pickup", 1)
    assert sent["replayto"] == "pickup-pizza-boxed"


async def test_the_proxys_header_identifies_the_user(newsroom: Newsroom, visit: Open) -> None:
    newsroom.settings = ArchiveSettings(map=newsroom.map, user_header="X-Auth-Request-User")
    await newsroom.died("pickup", BOXED, "no free shelf", **SHELF)
    page = await visit(f"{newsroom.url}/dead-letters")
    await page.get_by_role("button", name="Send again").click()
    dialog = page.get_by_role("dialog")
    await expect(dialog).to_contain_text("sign in first")
    await dialog.get_by_label("Your name").fill("Mallory")
    await dialog.get_by_role("button", name="Send again").click()
    assert newsroom.broker.events("replay.pickup") == []
    await page.context.set_extra_http_headers({"X-Auth-Request-User": "ada@example.org"})
    await page.reload()
    await page.get_by_role("button", name="Send again").click()
    await expect(dialog).to_contain_text("Signed in as ada@example.org")
    await expect(dialog.get_by_label("Your name")).to_be_hidden()
    await dialog.get_by_role("button", name="Send again").click()
    await newsroom.sent("pickup", 1)
    await page.locator(".deeds summary").click()
    await expect(page.locator(".deeds li")).to_contain_text("ada@example.org")


async def test_personal_data_is_shown_to_listed_users_on_request(
    newsroom: Newsroom, visit: Open, tmp_path: Path
) -> None:
    with keys_in_use(tmp_path):
        await receive_personal_event(newsroom)
        newsroom.settings = ArchiveSettings(
            map=newsroom.map, user_header=USER_HEADER, personal_readers=frozenset({"ada@example.org"})
        )
        page = await visit(f"{newsroom.url}/events")
        button = page.get_by_role("button", name="Show personal data")
        await page.locator("[data-event] summary").click()
        await expect(page.locator("[data-event] pre")).to_contain_text("encrypted:v1:")
        await expect(button).to_have_count(0)
        await page.context.set_extra_http_headers({USER_HEADER: "ada@example.org"})
        await page.reload()
        await page.locator("[data-event] summary").click()
        await button.click()
        await expect(page.locator("[data-event] pre")).to_contain_text(PLACED.name)
        await expect(button).to_have_count(0)
        await page.goto(f"{newsroom.url}/audit")
        await expect(page.locator("main")).to_contain_text("ada@example.org")
        await expect(page.locator("main")).to_contain_text("personal data")


async def test_all_that_match_are_sent_at_a_rate_and_it_is_ended_while_it_runs(newsroom: Newsroom, visit: Open) -> None:
    for _ in range(3):
        await newsroom.died("pickup", BOXED, "no free shelf: all 12 are taken", **SHELF)
    await newsroom.died("pickup", BOXED, "the shop is closed", **SHELF)
    await newsroom.died("loyalty", "orders.orderCompleted.v1", "no free tier", failuresubscription="l")
    page = await visit(f"{newsroom.url}/dead-letters?app=pickup")
    await page.get_by_text("More filters").click()
    await page.get_by_label("Part of the reason").fill("No Free")
    await page.keyboard.press("Enter")
    await page.wait_for_url("**/console/dead-letters?app=pickup&state=open&reason=No+Free")
    await expect(page.locator(".letter")).to_have_count(3)
    await page.get_by_role("button", name="Send all matching again…").click()
    dialog = page.get_by_role("dialog", name="Send all matching dead letters again?")
    await expect(dialog).to_contain_text("Dry run: 3 events would go to")
    await expect(dialog.locator("li")).to_have_text("pickup-pizza-boxed3")
    await dialog.get_by_label("Your name").fill("Ada")
    await dialog.get_by_label("Events per second, at most").fill("0.00001")
    await dialog.get_by_role("button", name="Send again").click()
    await expect(dialog).to_contain_text("ratePerSecond must be at least 0.001")
    await dialog.get_by_label("Events per second, at most").fill("0.01")
    await dialog.get_by_role("button", name="Send again").click()
    await page.wait_for_url("**/console/replays")
    run = page.get_by_role("article", name=re.compile("pickup"))
    await expect(run).to_contain_text("dead letters · reason with “No Free” · at most 0.01 a second")
    await expect(run).to_contain_text("1 of 3 events")
    await run.get_by_role("button", name="Cancel replay").click()
    await page.get_by_role("dialog", name="Cancel this replay?").get_by_role("button", name="Cancel replay").click()
    await expect(run).to_contain_text("cancelled")
    assert len(await newsroom.sent("pickup", 1)) == 1
    assert newsroom.broker.events("replay.loyalty") == []


async def test_a_link_shows_the_same_dead_letters_to_another_user(newsroom: Newsroom, visit: Open) -> None:
    await newsroom.died("pickup", BOXED, "no free shelf", **SHELF)
    await newsroom.died("pickup", BOXED, "no free shelf", failuresubscription="pickup-other")
    first = await visit(f"{newsroom.url}/dead-letters")
    await first.get_by_text("More filters").click()
    await first.get_by_label("Subscription").fill("pickup-other")
    await first.get_by_label("Arrived from").fill("2020-01-02T03:04:05")
    await first.get_by_role("button", name="Find").click()
    await first.wait_for_url("**&since=2020-01-02T03%3A04%3A05.000Z")
    second = await visit(first.url)
    await expect(second.locator(".letter")).to_have_count(1)
    await expect(second.get_by_label("Subscription")).to_have_value("pickup-other")
    await expect(second.get_by_label("Arrived from")).to_have_value("2020-01-02T03:04:05")
    await second.get_by_role("link", name="Discarded").click()
    await expect(second.get_by_text("No dead letters match these conditions")).to_be_visible()
    await second.get_by_role("link", name="All dead letters").click()
    await second.get_by_role("link", name="Open", exact=True).click()
    await expect(second.locator(".letter")).to_have_count(2)


async def test_ten_thousand_dead_letters_are_shown_by_the_page(newsroom: Newsroom, visit: Open, tmp_path: Path) -> None:
    await newsroom.died("pickup", BOXED, "no free shelf", **SHELF)
    engine = sa.create_engine(f"sqlite:///{tmp_path / 'archive.db'}")
    with engine.begin() as connection:
        letter = dict(connection.execute(sa.select(dead_letters)).mappings().one())
        more = [{**letter, "seq": n, "key": f"key-{n}", "subject": f"order-{n}"} for n in range(2, 10_001)]
        connection.execute(sa.insert(dead_letters), more)
    engine.dispose()
    page = await visit(f"{newsroom.url}/dead-letters")
    letters = page.locator(".letter")
    await expect(letters).to_have_count(50)
    await expect(letters.first).to_contain_text("about order-10000")
    await expect(page.get_by_role("link", name="Dead letters 10000 open")).to_be_visible()
    await page.get_by_role("link", name="Older").click()
    await page.wait_for_url("**/console/dead-letters?state=open&before=9951")
    await expect(letters.first).to_contain_text("about order-9950")
    await expect(letters).to_have_count(50)
    await page.goto(f"{newsroom.url}/dead-letters?before=51")
    await expect(letters.last).to_contain_text("6 attempts")
    await expect(letters).to_have_count(50)
    await expect(page.get_by_role("link", name="Older")).to_have_count(0)
    await page.get_by_role("button", name="Send all matching again…").click()
    await expect(page.get_by_role("dialog")).to_contain_text("Dry run: 10,000 events would go to")
    await page.keyboard.press("Escape")
    await page.get_by_role("link", name="Latest").click()
    await expect(letters.first).to_contain_text("about order-10000")


# -- replays ----------------------------------------------------------------------------------------------------------


async def test_a_story_is_sent_to_a_consumer_again_after_a_dry_run_and_with_the_token(
    newsroom: Newsroom, visit: Open
) -> None:
    newsroom.settings = ArchiveSettings(map=newsroom.map, token=SecretStr("s3cret"))
    published = await newsroom.order("c-1")
    await newsroom.order("c-2")
    page = await visit(f"{newsroom.url}/events?correlationId=c-1")
    await page.get_by_role("link", name="Replay to a consumer").click()
    await expect(page.get_by_label("Correlation id")).to_have_value("c-1")
    await page.get_by_label("Consumer").select_option("kitchen")
    await expect(page.get_by_label("orders.orderConfirmed.v2")).to_be_visible()
    await page.get_by_role("button", name="Dry run").click()
    await expect(page.locator(".dry")).to_contain_text("1 event would go to kitchen")
    assert newsroom.broker.events("replay.kitchen") == []

    await page.get_by_role("button", name="Send 1 event again").click()
    dialog = page.get_by_role("dialog", name="Send 1 event to kitchen again?")
    await dialog.get_by_label("Your name").fill("Ada")
    await dialog.get_by_label("Access token").fill("guessed")
    await dialog.get_by_role("button", name="Send again").click()
    await expect(dialog).to_contain_text("The access token is wrong")
    await expect(dialog.get_by_label("Access token")).to_be_focused()
    await dialog.get_by_label("Access token").fill("s3cret")
    await dialog.get_by_role("button", name="Send again").click()
    run = page.get_by_role("article", name=re.compile("kitchen"))
    await expect(run).to_contain_text("1 of 1 event")
    await expect(run).to_contain_text("Ada requested it")
    await expect(page.locator(".dry")).to_have_count(0)
    [sent] = await newsroom.sent("kitchen", 1)
    assert sent["id"] in {item["id"] for item in published if item["type"] == "orders.orderConfirmed"}
    assert sent["version"] == "2"


async def test_a_replay_by_type_time_and_rate_is_ended_while_it_runs(newsroom: Newsroom, visit: Open) -> None:
    long_ago = datetime.now(UTC) - timedelta(days=2)
    await newsroom.order("c-0", start=long_ago)
    for number in range(9):
        await newsroom.order(f"c-{number + 1}")
    page = await visit(f"{newsroom.url}/replays?consumer=tracking&type=orders.orderPlaced.v1")
    await expect(page.get_by_label("orders.orderPlaced.v1")).to_be_checked()
    await page.get_by_label("orders.orderCompleted.v1").check()
    await page.get_by_label("Subscription").select_option("tracking")
    await page.get_by_label("orders.orderCompleted.v1").uncheck()
    await page.get_by_label("Happened from").fill(f"{datetime.now(UTC) - timedelta(days=1):%Y-%m-%dT%H:%M:%S}")
    await page.get_by_label("Events per second, at most").fill("0.2")
    await page.get_by_role("button", name="Dry run").click()
    await expect(page.locator(".dry")).to_contain_text("9 events would go to tracking, in 45 s or more")
    await page.get_by_label("Happened before").fill("2020-01-01T00:00:00")
    await expect(page.locator(".dry")).to_have_count(0)  # it was about something else
    await page.get_by_role("button", name="Dry run").click()
    await expect(page.get_by_role("alert")).to_contain_text("nothing happened from")
    await page.get_by_label("Happened before").fill("")
    await page.get_by_role("button", name="Dry run").click()
    await page.get_by_role("button", name="Send 9 events again").click()
    await page.get_by_label("Your name").fill("Ada")
    await page.get_by_role("dialog").get_by_role("button", name="Send again").click()
    run = page.get_by_role("article", name=re.compile("tracking"))
    await expect(run).to_contain_text("running")
    await run.get_by_role("button", name="Cancel replay").click()
    await page.get_by_role("dialog", name="Cancel this replay?").get_by_role("button", name="Cancel replay").click()
    await expect(run).to_contain_text("cancelled")
    await expect(run.get_by_role("button", name="Cancel replay")).to_have_count(0)
    assert len(newsroom.broker.events("replay.tracking")) < 9


# -- versions ---------------------------------------------------------------------------------------------------------


async def test_deprecated_versions_list_their_readers(newsroom: Newsroom, visit: Open) -> None:
    drawn: dict[str, Any] = json.loads(newsroom.map.read_text())
    [old] = drawn["deprecated"]
    await newsroom.receive("orders.orderConfirmed.v1")
    page = await visit(f"{newsroom.url}/versions")
    card = page.get_by_role("article", name=re.compile("orders.orderConfirmed"))
    await expect(card).to_contain_text("No subscription reads it by name")
    await expect(card).to_contain_text("1 in the last minute")
    old["readers"] = [{"app": "pickup", "subscription": "pickup-order-confirmed"}]
    old["removal"] = "2020-01-01"
    newsroom.map.write_text(json.dumps(drawn))
    await page.reload()
    await expect(card).to_contain_text("1 subscription still reads it")
    await expect(card).to_contain_text("pickup-order-confirmed")
    await expect(card).to_contain_text("days ago")
    await expect(page.get_by_role("link", name="Versions 1 deprecated and still read")).to_be_visible()


async def test_the_audit_page_shows_who_changed_what(newsroom: Newsroom, visit: Open) -> None:
    await newsroom.died("pickup", BOXED, "no free shelf", **SHELF)
    await newsroom.died("pickup", BOXED, "no free shelf", **SHELF)
    page = await visit(f"{newsroom.url}/audit")
    await expect(page.get_by_role("heading", name="No entries")).to_be_visible()
    for number, who in ((1, "Ada"), (2, "<i>Bob</i>")):
        body = {"by": who, "reason": f"reason {number}"}
        answer = await page.request.post(
            f"{newsroom.url.removesuffix('/console')}/deadletters/{number}/discard", data=body
        )
        assert answer.status == 200
    entries = page.locator(".audit li")
    await expect(entries).to_have_count(2)
    await expect(entries.first).to_contain_text("<i>Bob</i>")
    await expect(entries.first).to_contain_text("discarded deadletter/2")
    await page.get_by_label("Who").fill("Ada")
    await page.keyboard.press("Enter")
    await page.wait_for_url("**/console/audit?who=Ada")
    await expect(entries).to_have_count(1)
    await expect(entries).to_contain_text("reason 1")


# -- notices ----------------------------------------------------------------------------------------------------------


def failed(subscription: str, reason: str) -> SubscriptionFailed:
    return SubscriptionFailed(
        namespace="pizza",
        owners=(Owner(name="<b>counter</b>", contact="#counter"),),
        subscription=subscription,
        app="pickup",
        reason=reason,
        message="m",
        since=datetime(2026, 1, 1, tzinfo=UTC),
    )


async def test_notices_show_what_was_sent_to_whom_how_often_and_what_the_webhook_got(
    newsroom: Newsroom, visit: Open, tmp_path: Path
) -> None:
    page = await visit(newsroom.url)
    await page.get_by_role("link", name="Notices").focus()
    await page.keyboard.press("Enter")
    await page.wait_for_url("**/console/notices")
    await expect(page.get_by_role("heading", name="Notices", exact=True)).to_be_focused()
    await expect(page.get_by_role("heading", name="No notices")).to_be_visible()
    for reason in ("UnknownType", "AccessDenied", "Late", "Other"):
        await newsroom.notify(failed("pickup-pizza-boxed", reason))
    engine = sa.create_engine(f"sqlite:///{tmp_path / 'archive.db'}")
    states: dict[str, dict[str, object]] = {
        "UnknownType": {"attempts": 1},
        "AccessDenied": {"attempts": 5, "error": "status 500"},
        "Late": {"attempts": 1, "error": "no response within 10 s", "due": 1e10, "times": 3, "first": 0.0},
    }
    for reason, values in states.items():
        with engine.begin() as connection:
            same = sent_notices.c.title.contains(reason)
            connection.execute(sa.update(sent_notices).where(same).values(**values))
    engine.dispose()

    def card(reason: str) -> Locator:
        return page.get_by_role("article", name=f"The subscription pickup-pizza-boxed is not ready: {reason} [pizza]")

    await expect(card("Late")).to_contain_text("To <b>counter</b> (#counter)")
    await expect(card("Late")).to_contain_text("3 timesfirst 1 Jan, 00:00:00, last just now")
    await expect(card("Late")).to_contain_text("waiting to be sentno response within 10 s")
    await expect(card("AccessDenied")).to_contain_text("not sent, no more attemptsstatus 500")
    await expect(card("UnknownType").locator("dd").last).to_have_text("sent")
    await expect(card("Other")).to_contain_text("no webhook was configured")
    await card("Other").get_by_role("link", name="tidings.subscriptionFailed").click()
    await page.wait_for_url("**/console/events?type=tidings.subscriptionFailed")


async def test_a_link_shows_the_same_notices_to_another_user(newsroom: Newsroom, visit: Open) -> None:
    await newsroom.notify(failed("pickup-pizza-boxed", "UnknownType"))
    await newsroom.notify(failed("kitchen-order-confirmed", "UnknownType"))
    page = await visit(f"{newsroom.url}/notices")
    await expect(page.locator(".record")).to_have_count(2)
    await page.get_by_label("Find notices").fill("Kitchen")
    await page.wait_for_url("**/console/notices?q=Kitchen")
    other = await visit(page.url)
    await expect(other.locator(".record")).to_have_count(1)
    await expect(other.get_by_text("1 of the latest 2 notices")).to_be_visible()
    await newsroom.notify(failed("kitchen-order-confirmed", "AccessDenied"))
    await expect(other.locator(".record")).to_have_count(2)


# -- for everybody ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("view", "path", "shown"),
    [
        ("events", "/events", "kitchen.pizzaBoxed"),
        ("dead-letters", "/deadletters", "pickup-pizza-boxed"),
        ("audit", "/audit", "No entries"),
        ("notices", "/notices", "No notices"),
        ("replays", "/replays", "No replays yet"),
    ],
)
async def test_a_view_that_could_not_be_read_returns_unchanged(
    newsroom: Newsroom, visit: Open, view: str, path: str, shown: str
) -> None:
    await newsroom.receive(BOXED)
    await newsroom.died("pickup", BOXED, "no free shelf", **SHELF)
    page = await visit(f"{newsroom.url}/{view}")
    result = page.locator("main")
    await expect(result).to_contain_text(shown)
    where = re.compile(rf"^{re.escape(newsroom.url.removesuffix('/console'))}{path}(\?|$)")
    await page.route(where, lambda route: route.fulfill(status=500, json={"detail": "the disk is full"}))
    await expect(result.get_by_role("alert")).to_contain_text("the disk is full")
    await page.unroute(where)
    await expect(result).to_contain_text(shown)
    await expect(result.get_by_role("alert")).to_have_count(0)


async def test_an_unavailable_archive_is_reported_until_it_returns(newsroom: Newsroom, visit: Open) -> None:
    page = await visit(newsroom.url)
    await expect(page.locator(".live")).to_have_text("Live")
    await page.context.set_offline(True)
    await expect(page.locator("#notices")).to_contain_text("The archive is not responding")
    await expect(page.locator(".live")).to_have_text("Reconnecting…")
    await expect(page.locator(".box")).to_have_count(10)
    await page.context.set_offline(False)
    await expect(page.locator(".live")).to_have_text("Live")
    await expect(page.locator("#notices")).to_be_empty()


async def test_a_map_that_could_not_be_read_is_asked_for_again_before_its_next_turn(
    newsroom: Newsroom, visit: Open
) -> None:
    drawn = newsroom.map.read_text()
    newsroom.map.write_text(drawn[:100])
    page = await visit(f"{newsroom.url}/subscriptions")
    await expect(page.locator("main")).to_contain_text(f"ARCHIVE_MAP={newsroom.map} cannot be read")
    newsroom.map.write_text(drawn)
    await expect(page.locator("tbody tr").first).to_be_visible(timeout=PATIENCE // 2)  # its turn comes each minute


async def test_colours_are_chosen_and_kept(newsroom: Newsroom, visit: Open) -> None:
    page = await visit(newsroom.url, color_scheme="light")
    paper = "getComputedStyle(document.body).backgroundColor"
    light = await page.evaluate(paper)
    await page.get_by_role("button", name="Change to light").click()
    await page.get_by_role("button", name="Change to dark").click()
    assert await page.evaluate(paper) != light
    await page.reload()
    assert await page.evaluate(paper) != light


async def test_nothing_moves_for_who_wants_no_motion(newsroom: Newsroom, visit: Open) -> None:
    await newsroom.receive(BOXED)
    page = await visit(newsroom.url, reduced_motion="reduce")
    flow = line(page, "kitchen pickup").locator(".flow")
    await expect(line(page, "kitchen pickup")).to_have_attribute("data-flow", "slow")
    assert await flow.evaluate("element => getComputedStyle(element).animationName") == "none"


@pytest.mark.parametrize(
    "view",
    ["", "/subscriptions", "/events?correlationId=c-1", "/dead-letters", "/replays", "/versions", "/notices", "/audit"],
)
@pytest.mark.parametrize(
    "how", [{"color_scheme": "light"}, {"color_scheme": "dark"}, PHONE], ids=["light", "dark", "phone"]
)
async def test_everybody_can_use_it(newsroom: Newsroom, visit: Open, view: str, how: dict[str, Any]) -> None:
    await newsroom.order("c-1")
    await newsroom.died("pickup", BOXED, "no free shelf", **SHELF)
    await newsroom.died("pickup", BOXED, "no free shelf", **SHELF)
    await newsroom.notify(failed("pickup-pizza-boxed", "UnknownType"))
    page = await visit(f"{newsroom.url}{view}", reduced_motion="reduce", **how)
    await expect(page.locator(".live")).to_have_text("Live")
    await expect(
        page.locator(".box, .events > li, .letter, .kinds label, .record, tbody tr, .lonely").first
    ).to_be_visible()
    assert await page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    completed = await Axe().run(page)
    assert completed.violations_count == 0, completed.generate_report()
