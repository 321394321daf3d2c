"""Deprecation and end of a version: its resource stays unchanged while the clock advances."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import pytest
from tests.operator import shop
from tests.operator.cluster import Cluster
from tests.operator.conftest import Start, until

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
        """Let it be then, shortly before a day begins."""
        self.begun, self.shown = datetime.now(UTC), datetime.fromisoformat(shown).replace(tzinfo=UTC)


def messages(cluster: Cluster, manifest: dict[str, Any]) -> tuple[str, str]:
    """Return the message of Ready, and the reason why the version is accepted or not."""
    conditions = shop.conditions(cluster, manifest)
    return (conditions["Ready"]["status"], conditions["VersionAccepted"]["reason"]) if conditions else ("", "")


def names(cluster: Cluster, namespace: str) -> set[str]:
    return {
        dapr_subscription["spec"]["topic"] for dapr_subscription in shop.dapr_subscriptions(cluster, namespace).values()
    }


@pytest.mark.real
@pytest.mark.parametrize("after_removal", ["Stall", "Warn"])
async def test_from_active_to_its_removal(cluster: Cluster, namespace: str, operator: Start, after_removal: str):
    kind = cluster.apply(shop.event_type(namespace, versions=VERSIONS, policy={"afterRemoval": after_removal}))
    manifest = cluster.apply(shop.subscription(namespace))
    modern = cluster.apply(shop.subscription(namespace, "modern", versions=["v2"], consumer={"appId": "modern"}))
    clock = Clock.at("2026-02-27T12:00:00")
    made = await operator(clock=clock, resync=0.5)
    await until(lambda: messages(cluster, manifest) == ("True", "Accepted"), "nothing is wrong yet")
    await until(lambda: shop.status(cluster, kind).get("deprecated") == [], "nobody has to move yet")
    await until(lambda: made.queue.idle, "all is done")
    before = shop.versions(cluster, namespace)
    clock.set("2026-02-28T12:00:00")
    await asyncio.sleep(2.0)  # in which the operator reconciles everything several times
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


def _events(cluster: Cluster, namespace: str) -> set[str]:
    return {event["reason"] for event in shop.events(cluster, namespace)}
