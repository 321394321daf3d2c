"""Redrives: dead letters that match a filter are replayed at a rate, with progress, and can be cancelled."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from tests.unit.test_archive_domain import unreadable
from tests.unit.test_archive_service import Archive, confirm, dead, patience, running

from tidings.testing import MemoryBroker

__all__ = ["patience"]
BOXED, COMPLETED = "pickup-pizza-boxed", "loyalty-order-completed"


@pytest.fixture
async def archive(tmp_path: Path) -> AsyncIterator[Archive]:
    async with running(tmp_path) as result:
        yield result


async def several(archive: Archive) -> None:
    """Store two letters of pickup that found no shelf, one with another reason, and one of loyalty."""
    await archive.receive("deadletter.pickup", dead("e-1"), dead("e-2", failurereason="No Such Shelf: 12"))
    await archive.receive("deadletter.pickup", dead("e-3", failurereason="100%_full", failureclass="ShelfError"))
    await archive.receive("deadletter.loyalty", dead("e-4", failuresubscription=COMPLETED, subject="o-4"))


async def redrive(archive: Archive, **body: Any) -> dict[str, Any]:
    answer = await archive.http.post("/deadletters/redrive", json={"by": "ann", **body})
    assert answer.status_code == 202, answer.text
    started: dict[str, Any] = answer.json()
    return started


async def confirmed(archive: Archive, number: int, outcome: str) -> None:
    letter = await archive.get(f"/deadletters/{number}")
    await confirm(archive, letter["replay"]["replayId"], outcome, eventId=letter["eventId"])


def ids(archive: Archive, app: str) -> list[str]:
    return [event["id"] for event in archive.sent(app)]


@pytest.mark.parametrize(
    ("wanted", "expected"),
    [
        ({}, {BOXED: 3, COMPLETED: 1}),
        ({"app": "pickup"}, {BOXED: 3}),
        ({"subscription": COMPLETED}, {COMPLETED: 1}),
        ({"reason": "no such shelf"}, {BOXED: 2, COMPLETED: 1}),
        ({"reason": "REJECTED: NO SUCH"}, {BOXED: 2, COMPLETED: 1}),
        ({"reason": "%_"}, {BOXED: 1}),
        ({"reason": "shelferror"}, {BOXED: 1}),
        ({"type": "kitchen.pizzaBoxed", "app": "loyalty"}, {COMPLETED: 1}),
        ({"type": "kitchen"}, {}),
        ({"since": "2020-01-01T00:00:00Z"}, {BOXED: 3, COMPLETED: 1}),
        ({"since": "2999-01-01T00:00:00Z"}, {}),
        ({"until": "2020-01-01T00:00:00Z"}, {}),
    ],
)
async def test_a_dry_run_counts_what_the_list_shows(
    archive: Archive, wanted: dict[str, str], expected: dict[str, int]
) -> None:
    await several(archive)
    answer = await archive.http.post("/deadletters/redrive", json=wanted, params={"dryRun": "true"})
    counts = {"dryRun": True, "matched": sum(expected.values()), "counts": expected}
    assert (answer.status_code, answer.json()) == (200, counts)
    listed = (await archive.get("/deadletters", **wanted))["deadLetters"]
    assert len(listed) == sum(expected.values())
    assert (await archive.get("/replays"))["replays"] == []
    assert {letter["state"] for letter in listed} <= {"open"}


async def test_selected_letters_are_sent_and_their_outcomes_counted(archive: Archive) -> None:
    await several(archive)
    started = await redrive(archive, app="pickup", reason="shelf", ratePerSecond=1000)
    assert (started["kind"], started["state"], started["matched"]) == ("deadLetters", "running", 3)
    assert (started["consumer"], started["letterReason"], started["requestedBy"]) == ("pickup", "shelf", "ann")
    ended = await archive.ended(started["replayId"])
    assert (ended["state"], ended["sent"], ended["skipped"], ended["unconfirmed"]) == ("completed", 3, 0, 3)
    await archive.until(lambda: len(archive.sent("pickup")) == 3)
    assert ids(archive, "pickup") == ["e-1", "e-2", "e-3"]
    assert {event["replayto"] for event in archive.sent("pickup")} == {BOXED}
    assert archive.sent("loyalty") == []
    for number, outcome in ((1, "handled"), (2, "failed")):
        await confirmed(archive, number, outcome)
    ended = await archive.get(f"/replays/{started['replayId']}")
    assert [ended[name] for name in ("handled", "failed", "unread", "dropped", "unconfirmed")] == [1, 1, 0, 0, 1]
    entries = (await archive.get("/deadletters/1"))["audit"]
    assert ("ann", "sent", f"to {BOXED}") in [(entry["who"], entry["action"], entry["detail"]) for entry in entries]
    audit = (await archive.get("/audit"))["entries"]
    [begun] = [entry for entry in audit if entry["action"] == "redrive"]
    assert begun["detail"] == "3 dead letters, at most 1000 per second: app pickup, reason shelf"


async def test_a_letter_that_fails_again_meanwhile_is_sent_once_and_new_ones_not_at_all(archive: Archive) -> None:
    await several(archive)
    started = await redrive(archive, app="pickup", ratePerSecond=4)
    await archive.until(lambda: archive.sent("pickup"))
    await confirmed(archive, 1, "failed")
    await archive.receive("deadletter.pickup", dead("e-9"))
    ended = await archive.ended(started["replayId"])
    assert (ended["sent"], ended["matched"], ended["failed"]) == (3, 3, 1)
    assert ids(archive, "pickup") == ["e-1", "e-2", "e-3"]
    assert [letter["eventId"] for letter in (await archive.get("/deadletters", app="pickup"))["deadLetters"]] == [
        "e-9",
        "e-1",
    ]


async def test_what_cannot_be_sent_is_skipped_with_the_reason(archive: Archive) -> None:
    await archive.receive("deadletter.pickup", dead("e-1"), dead("e-2", failuresubscription=""))
    await archive.receive("deadletter.pickup", dead("e-3", version=""), dead("e-4", failureshortened="9000000"))
    ended = await archive.ended((await redrive(archive))["replayId"])
    assert (ended["sent"], ended["skipped"]) == (1, 3)
    assert [detail.partition(":")[0] for detail in ended["skippedEvents"]] == [
        f"dead letter {number}" for number in (4, 3, 2)
    ]
    assert "name the subscription" in ended["skippedEvents"][2]


async def test_unreadable_events_are_skipped_with_the_reason(archive: Archive) -> None:
    """Their dead letters are the SDK's own. A redrive used to end at one whose JSON nests more deeply than Python's."""
    bodies = [b"", b"\xff", b"[7]", b'{"a":' * 9_000 + b"1" + b"}" * 9_000, b'{"data":%b%b}' % (b"[" * 999, b"]" * 999)]
    for body in bodies:
        await archive.receive("deadletter.pickup", json.loads(unreadable(body, BOXED)))
    for number in range(1, len(bodies) + 1):
        answer = await archive.http.post(f"/deadletters/{number}/replay", json={"by": "ann"})
        assert (answer.status_code, "it cannot be sent again" in answer.text) == (409, True), answer.text
    ended = await archive.ended((await redrive(archive))["replayId"])
    assert (ended["state"], ended["sent"], ended["skipped"]) == ("completed", 0, len(bodies))
    assert archive.sent("pickup") == []


async def test_an_event_without_a_version_is_sent_again_to_an_app_without_the_sdk(archive: Archive) -> None:
    await archive.receive("deadletter.pickup", dead("e-1", version="", failureclass="", failurereason=""))
    ended = await archive.ended((await redrive(archive))["replayId"])
    assert (ended["sent"], ended["skipped"]) == (1, 0)


async def test_it_is_no_faster_than_its_rate_and_ends_when_it_is_cancelled(archive: Archive) -> None:
    await several(archive)
    started = await redrive(archive, ratePerSecond=0.01)  # the second letter is due after 100 seconds
    await archive.until(lambda: archive.sent("pickup"))
    ended = (await archive.http.post(f"/replays/{started['replayId']}/cancel", params={"by": "ben"})).json()
    assert (ended["state"], ended["sent"], ended["matched"]) == ("cancelled", 1, 4)
    assert ids(archive, "pickup") == ["e-1"]
    assert len((await archive.get("/deadletters"))["deadLetters"]) == 3
    [cancelled] = [entry for entry in (await archive.get("/audit"))["entries"] if entry["action"] == "cancel"]
    assert (cancelled["who"], cancelled["detail"]) == ("ben", "after 1 of 4 events")


async def test_it_continues_after_a_crash(tmp_path: Path) -> None:
    broker = MemoryBroker()
    letters = [f"e-{number:02}" for number in range(12)]
    async with running(tmp_path, broker) as first:
        await first.receive("deadletter.pickup", *(dead(identity) for identity in letters))
        await redrive(first, replayId="r-1", ratePerSecond=8)
        await first.until(lambda: len(first.sent("pickup")) >= 4)
    assert len(broker.events("replay.pickup")) < 12
    async with running(tmp_path, broker) as second:
        assert (await redrive(second, replayId="r-1"))["ratePerSecond"] == 8
        ended = await second.ended("r-1")
        assert (ended["state"], ended["sent"]) == ("completed", 12)
        await second.until(lambda: len(second.sent("pickup")) >= 12)
        assert ids(second, "pickup") == letters


async def test_two_concurrent_redrives_send_every_letter_one_time(archive: Archive) -> None:
    await archive.receive("deadletter.pickup", *(dead(f"e-{number}") for number in range(20)))
    both = await asyncio.gather(redrive(archive, ratePerSecond=40), redrive(archive, app="pickup", ratePerSecond=60))
    ended = [await archive.ended(item["replayId"]) for item in both]
    assert sum(item["sent"] for item in ended) == 20
    await archive.until(lambda: len(archive.sent("pickup")) == 20)
    assert sorted(ids(archive, "pickup")) == sorted(f"e-{number}" for number in range(20))


@pytest.mark.parametrize(
    ("body", "complaint"),
    [
        ({"ratePerSecond": 0}, "greater than 0"),
        ({"ratePerSecond": 0.0001}, "at least 0.001"),
        ({"replayId": "two words"}, "replayId must be"),
        ({"since": "2026-01-01T00:00:00"}, "timezone"),
        ({"state": "handled"}, "Extra inputs"),
        ({"reason": "a\u0000b"}, "pattern"),
    ],
)
async def test_a_request_that_makes_no_sense_is_refused(archive: Archive, body: dict[str, Any], complaint: str) -> None:
    answer = await archive.http.post("/deadletters/redrive", json=body)
    assert answer.status_code == 422
    assert complaint in answer.text
