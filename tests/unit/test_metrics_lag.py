"""Metrics of consumer lag: the age of events at their delivery, and subscriptions without any."""

from __future__ import annotations

import json
import time
from datetime import UTC, datetime
from typing import Any

import httpx2
import pytest
from prometheus_client import REGISTRY

from tidings import Drop, Event, Handlers, Retry, Service, event
from tidings.consume.policy import Policy, SubscriptionPolicy
from tidings.context import Context
from tidings.conventions import IGNORED_PATH, REPLAY_PATH
from tidings.testing import MemorySidecar, post
from tidings.web.metrics import served
from tidings_cli.testing.programs import Ports

TOPIC = "shop.itemWeighed.v1"


@event("shop.itemWeighed")
class Weighed(Event):
    item: str


def service(name: str, result: Any = None) -> Service:
    handlers = Handlers()

    @handlers.on(Weighed)
    async def handle(_weighed: Weighed, _context: Context) -> Any:
        return result

    read = SubscriptionPolicy(name, "shop.itemWeighed", f"/events/{TOPIC}", TOPIC, (1,))
    suspended = SubscriptionPolicy(f"{name}-suspended", "shop.itemWeighed", "/elsewhere", TOPIC, (1,), suspend=True)
    policy = Policy("shop", (read, suspended))
    return Service("shop", handlers, sidecar=MemorySidecar("shop"), policy=policy)


def weighed(seconds_ago: float, **attributes: str) -> bytes:
    happened = datetime.fromtimestamp(time.time() - seconds_ago, UTC).isoformat()
    standard = {"id": "e-1", "source": "t", "type": "shop.itemWeighed", "specversion": "1.0", "version": "1"}
    return json.dumps({**standard, "topic": TOPIC, "time": happened, "data": {"item": "pie"}, **attributes}).encode()


def ages(subscription: str) -> tuple[float, float]:
    """Return the number of recorded ages, and their sum."""
    result = [
        REGISTRY.get_sample_value(f"tidings_event_age_seconds_{item}", {"subscription": subscription})
        for item in ("count", "sum")
    ]
    return result[0] or 0.0, result[1] or 0.0


async def test_the_age_is_that_of_the_first_delivery() -> None:
    shop = service("late", Retry("not now"))
    assert ages("late") == (0, 0)
    assert REGISTRY.get_sample_value("tidings_event_age_seconds_count", {"subscription": "late"}) == 0  # there at once
    for _ in range(3):
        await post(shop.ingress, f"/events/{TOPIC}", weighed(90))
    count, total = ages("late")
    assert count == 1
    assert total == pytest.approx(90, abs=5)


@pytest.mark.parametrize(
    ("path", "attributes", "counted"),
    [
        (f"/events/{TOPIC}", {}, (1, 90)),
        (f"/events/{TOPIC}", {"time": "2999-01-01T00:00:00Z"}, (1, 0)),  # another machine's clock
        (f"/events/{TOPIC}", {"time": "yesterday"}, (0, 0)),
        (f"/events/{TOPIC}", {"time": ""}, (0, 0)),
        (REPLAY_PATH, {"replayto": "*"}, (0, 0)),  # old on purpose
        (IGNORED_PATH, {}, (0, 0)),
    ],
)
async def test_deliveries_without_lag_information_are_not_counted(
    path: str, attributes: dict[str, str], counted: tuple[float, float]
) -> None:
    name = f"read-{path}-{attributes}"
    await post(service(name, Drop("seen")).ingress, path, weighed(90, **attributes))
    assert ages(name) == pytest.approx(counted, abs=5)


async def test_who_ignores_everything_is_not_silent() -> None:
    shop = service("picky")
    labels = {"subscription": "picky", "outcome": "Ignored"}
    assert REGISTRY.get_sample_value("tidings_events_handled_total", labels) == 0
    await post(shop.ingress, IGNORED_PATH, weighed(1))
    assert REGISTRY.get_sample_value("tidings_events_handled_total", labels) == 1
    read = {name: {"subscription": name, "topic": TOPIC} for name in ("picky", "picky-suspended")}
    assert REGISTRY.get_sample_value("tidings_subscription_reads", read["picky"]) == 1
    assert REGISTRY.get_sample_value("tidings_subscription_reads", read["picky-suspended"]) is None


def test_no_metric_has_a_series_of_its_creation() -> None:
    service("scraped")
    with Ports() as ports, served("127.0.0.1", port := ports.take()):
        text = httpx2.get(f"http://127.0.0.1:{port}/metrics", trust_env=False).text
    assert 'tidings_events_handled_total{outcome="Ignored",subscription="scraped"} 0.0' in text
    assert "_created" not in text
