"""The subscription of a sidecar's dead letter, and its reason as far as it is known."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
from structlog.testing import capture_logs
from tests.support.newsroom import MAPS_OF_NO_USE

from tidings.messages.envelope import Envelope
from tidings_archive.attribution import Reader, attribute, load_subscriptions
from tidings_archive.domain.deadletter import UNKNOWN_REASON

SOLD = "shop.itemSold"
READERS = (
    Reader("billing-sold", "billing", {SOLD: ("v1", "v2")}),
    Reader("billing-web", "billing", {SOLD: ("v2",)}),
    Reader("stock-sold", "stock", {SOLD: ("v1",)}, ("shop.itemSold.v1",)),
    Reader("stock-counted", "stock", {"stock.counted": ("v1",)}, ("counts",)),
)


@pytest.mark.parametrize(
    ("app", "version", "replayto", "subscription"),
    [
        ("billing", "1", "", "billing-sold"),
        ("stock", "1", "", "stock-sold"),
        ("billing", "2", "", ""),
        ("billing", "2", "billing-web", "billing-web"),
        ("billing", "2", "*", ""),
        ("billing", "1", "*", "billing-sold"),
        ("billing", "9", "", ""),
        ("menu", "1", "", ""),
        ("menu", "1", "menu-sold", "menu-sold"),
    ],
)
def test_the_subscription_is_the_only_one_that_reads_the_type(
    app: str, version: str, replayto: str, subscription: str
) -> None:
    letter = Envelope(type=SOLD, version=version, replayto=replayto)
    known = attribute(letter, app, READERS)
    assert known.subscription == subscription
    assert (f"see the log of {app}" in known.reason) == bool(subscription)
    assert known.reason.startswith(subscription or UNKNOWN_REASON)


@pytest.mark.parametrize(("topic", "subscription"), [("counts", "stock-counted"), ("elsewhere", "")])
def test_an_event_of_an_unknown_type_is_attributed_by_its_topic(topic: str, subscription: str) -> None:
    letter = Envelope(type="com.dapr.event.sent", topic=topic)
    assert attribute(letter, "stock", READERS).subscription == subscription
    assert attribute(Envelope(type=SOLD, version="1", topic="counts"), "stock", READERS).subscription == "stock-sold"


def test_several_candidates_are_named() -> None:
    reason = attribute(Envelope(type=SOLD, version="2"), "billing", READERS).reason
    assert reason.endswith("it was for one of billing-sold, billing-web")


def test_the_map_is_read_again_once_it_has_changed(tmp_path: Path) -> None:
    path = tmp_path / "map.json"
    assert load_subscriptions(None) == load_subscriptions(path) == ()
    path.write_text(json.dumps({"subscriptions": [{"name": "a", "app": "x", "reads": {SOLD: ["v1"]}, "more": 1}]}))
    assert load_subscriptions(path) == (Reader("a", "x", {SOLD: ("v1",)}),)
    before = path.stat().st_mtime_ns
    path.write_text(json.dumps({"subscriptions": []}))
    os.utime(path, ns=(before, before))  # within one tick of the clock
    assert load_subscriptions(path) == ()


@pytest.mark.parametrize("content", MAPS_OF_NO_USE)
def test_a_map_that_cannot_be_read_names_nobody_and_holds_up_nothing(tmp_path: Path, content: bytes | None) -> None:
    path = tmp_path / "map.json"
    path.write_bytes(content) if content is not None else path.mkdir()
    with capture_logs() as logged:
        assert load_subscriptions(path) == ()
    assert [(entry["event"], entry["path"]) for entry in logged] == [("archive.map_unreadable", str(path))]
