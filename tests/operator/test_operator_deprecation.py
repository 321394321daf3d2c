"""A version's last months: its resource stays unchanged, only the clock moves."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from datetime import UTC, date, datetime
from typing import Any

import pytest
from tests.operator import shop
from tests.operator.cluster import Cluster
from tests.operator.conftest import Start, until

from tidings_operator import dates
from tidings_plan.resources import Inventory, parse_resource

ENDS = {"effective": "2026-03-01", "removal": "2026-06-01", "alternative": "v2"}
VERSIONS = [
    {"name": "v1", "schema": {"type": "object"}, "deprecation": ENDS},
    {"name": "v2", "schema": {"type": "object"}},
]


@dataclass
class Clock:
    """A clock that a test moves, and that goes on from there by itself: days begin while the operator sleeps."""

    begun: datetime
    shown: datetime

    @classmethod
    def at(cls, shown: str) -> Clock:
        return cls(datetime.now(UTC), datetime.fromisoformat(shown).replace(tzinfo=UTC))

    def __call__(self) -> datetime:
        return self.shown + (datetime.now(UTC) - self.begun)

    def set(self, shown: str) -> None:
        """Let it be then; never at midnight: so it is the day's beginning that is noticed."""
        self.begun, self.shown = datetime.now(UTC), datetime.fromisoformat(shown).replace(tzinfo=UTC)


def messages(cluster: Cluster, manifest: dict[str, Any]) -> tuple[str, str]:
    """Ready, and why the version is accepted or not."""
    conditions = shop.conditions(cluster, manifest)
    return (conditions["Ready"]["status"], conditions["VersionAccepted"]["reason"]) if conditions else ("", "")


def names(cluster: Cluster, namespace: str) -> set[str]:
    return {
        dapr_subscription["spec"]["topic"] for dapr_subscription in shop.dapr_subscriptions(cluster, namespace).values()
    }


@pytest.mark.real
@pytest.mark.parametrize("after_removal", ["Stall", "Warn"])
async def test_from_active_to_its_removal(
    cluster: Cluster, namespace: str, operator: Start, monkeypatch: pytest.MonkeyPatch, after_removal: str
):
    monkeypatch.setattr(dates, "LOOK", 0.2)
    kind = cluster.apply(shop.event_type(namespace, versions=VERSIONS, policy={"afterRemoval": after_removal}))
    manifest = cluster.apply(shop.subscription(namespace))
    modern = cluster.apply(shop.subscription(namespace, "modern", versions=["v2"], consumer={"appId": "modern"}))
    clock = Clock.at("2026-02-27T12:00:00")
    made = await operator(clock=clock, resync=3600.0)
    await until(lambda: messages(cluster, manifest) == ("True", "Accepted"), "nothing is wrong yet")
    await until(lambda: shop.status(cluster, kind).get("deprecated") == [], "nobody has to move yet")
    await until(lambda: made.queue.idle, "all is done")
    before = shop.versions(cluster, namespace)
    clock.set("2026-02-28T12:00:00")
    await asyncio.sleep(1.0)  # in which the operator looks at the date several times
    assert shop.versions(cluster, namespace) == before, "a day on which nothing happens writes nothing"
    clock.set("2026-02-28T23:59:58")

    await until(lambda: messages(cluster, manifest) == ("True", "DeprecatedVersion"), "the day of its deprecation")
    warning = shop.conditions(cluster, manifest)["VersionAccepted"]["message"]
    assert "will be removed on 2026-06-01" in warning
    assert "Read v2 instead" in warning
    await until(lambda: shop.status(cluster, kind)["deprecated"], "the type lists who must move")
    assert shop.status(cluster, kind)["deprecated"] == [
        {
            "version": "v1",
            "removal": "2026-06-01",
            "alternative": "v2",
            "consumers": [f"{namespace}/kitchen-order-confirmed (kitchen)"],
        }
    ]
    await until(lambda: "DeprecatedVersion" in _events(cluster, namespace), "its consumer is warned in an event")
    await until(lambda: messages(cluster, modern) == ("True", "Accepted"), "others are not concerned")

    clock.set("2026-05-31T23:59:58")
    stalls = after_removal == "Stall"
    await until(
        lambda: messages(cluster, manifest) == ("False" if stalls else "True", "PastRemoval"), "the day of its removal"
    )
    assert (shop.conditions(cluster, manifest)["Stalled"]["status"] == "True") is stalls
    await until(lambda: ("orders.orderConfirmed.v1" in names(cluster, namespace)) is not stalls, "as the policy says")
    assert "orders.orderConfirmed.v2" in names(cluster, namespace)
    await until(lambda: "PastRemoval" in _events(cluster, namespace), "its consumer is told in an event")


@pytest.mark.parametrize(
    ("after", "until_", "actual"),
    [
        ("2026-02-27", "2026-02-28", set()),
        ("2026-02-28", "2026-03-01", {"EventType", "app"}),
        ("2026-03-01", "2026-03-01", set()),
        ("2026-03-01", "2026-05-31", set()),
        ("2026-01-01", "2027-01-01", {"EventType", "app"}),
        ("2026-05-31", "2026-06-01", {"EventType", "app"}),
    ],
)
def test_a_date_is_due_a_single_time(after: str, until_: str, actual: set[str]):
    resources = [parse_resource(item)[0] for item in (shop.event_type("x", versions=VERSIONS), shop.subscription("x"))]
    keys = dates.due(
        Inventory([resource for resource in resources if resource]),
        date.fromisoformat(after),
        date.fromisoformat(until_),
    )
    assert {key.what for key in keys} == actual


def _events(cluster: Cluster, namespace: str) -> set[str]:
    return {event["reason"] for event in shop.events(cluster, namespace)}
