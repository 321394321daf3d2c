"""Bad events among good ones, on each broker: every good one is handled once, every bad one listed with a reason."""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from tests.conformance import poll, unique
from tests.support import bad_events
from tests.support.bad_events import BAD, ODD, SHARE, encoded, envelope

from tidings_cli.testing.fixtures import Serve, StartDaprd

pytestmark = [pytest.mark.real, pytest.mark.timeout(400)]


@pytest.mark.parametrize("broker", ["nats", "redis", "rabbitmq", "kafka"])
async def test_every_good_event_is_handled_one_time_and_every_bad_one_is_listed(
    broker: str, request: pytest.FixtureRequest, tmp_path: Path, daprd: StartDaprd, serve: Serve
) -> None:
    app = unique("till").replace(".", "-")
    kinds = [*BAD.values(), *ODD.values()]
    events, good, bad = [], set(), 0
    for number in range(SHARE * len(kinds)):
        kind = kinds[number // SHARE] if number % SHARE == SHARE // 2 else envelope
        events.append(encoded(kind(number)))
        if kind in BAD.values():
            bad += 1
        else:
            good.add(number)
    async with bad_events.running(broker, request.getfixturevalue(broker), app, tmp_path, daprd, serve) as (
        shop,
        letters,
        publish,
    ):
        await publish(events)
        handled = await shop.until_handled(good)
        # A broker that delivers a bad event again, because its answer is late, has its dead letter again, too.
        listed = partial(_listed, letters)
        await poll(lambda: len(listed()) >= bad)
    assert handled == dict.fromkeys(good, 1)
    assert len(listed()) == bad
    assert all(letter["failurereason"] for letter in letters), json.dumps(letters)[:2000]


def _listed(letters: list[dict[str, Any]]) -> set[tuple[str, str]]:
    """Return what identifies the events of dead letters: the id or, without one, the bytes."""
    return {(letter.get("originalid", ""), letter.get("data_base64", "")) for letter in letters}


@pytest.mark.parametrize("broker", ["nats", "redis", "rabbitmq", "kafka"])
async def test_later_events_are_handled_while_handlers_hang(
    broker: str, request: pytest.FixtureRequest, tmp_path: Path, daprd: StartDaprd, serve: Serve
) -> None:
    app, hang = unique("till").replace(".", "-"), BAD["the handler hangs"]
    numbers = range(100)
    events = [encoded(hang(number) if number % 25 == 0 else envelope(number)) for number in numbers]
    good = {number for number in numbers if number % 25}
    address = request.getfixturevalue(broker)
    how = bad_events.running(broker, address, app, tmp_path, daprd, serve, timeout="10m")
    async with how as (shop, letters, publish):
        await publish(events)
        await poll(lambda: shop.handled.keys() >= good)
        await poll(lambda: shop.hanging == 4)
        assert letters == [], "the hanging ones are still being handled, each once"
        assert [shop.tried[number] for number in numbers if number % 25 == 0] == [1, 1, 1, 1]
    assert shop.handled == dict.fromkeys(good, 1)
