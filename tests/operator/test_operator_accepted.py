"""The schemas that a type's readers hold on to: what is kept, and the report of a change that was not judged."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator
from functools import partial
from typing import Any

import pytest
from tests.operator import shop, webhooks
from tests.operator.cluster import Cluster
from tests.operator.conftest import Start, login, until
from tests.operator.test_operator_admission_pure import aged, inventory, judged, parsed, request

from tidings_cli.testing.programs import Ports
from tidings_operator import accepted
from tidings_operator.operating import Operator
from tidings_operator.settings import Settings


def thing(**properties: str) -> dict[str, Any]:
    """Return a schema of optional properties, by type."""
    return {"type": "object", "properties": {name: {"type": kind} for name, kind in properties.items()}}


FIRST, WITHOUT, OTHER = thing(size="string"), thing(), thing(size="integer")
"""Each suits the one before it, and the third does not suit the first."""


def event_type(schema: Any, compatibility: str = "Backward", **version: Any) -> dict[str, Any]:
    versions = [{"name": "v1", "schema": schema, **version}]
    return aged(shop.event_type("x", versions=versions, compatibility=compatibility))


def after(*schemas: Any, compatibility: str = "Backward") -> list[dict[str, str]]:
    """Return the accepted states after a type had these schemas in turn."""
    entries: list[dict[str, str]] = []
    for schema in schemas:
        entries = accepted.following(parsed(event_type(schema, compatibility)), {"accepted": entries})
    return entries


def schemas(entries: list[dict[str, str]]) -> list[Any]:
    return [json.loads(entry["schema"]) for entry in entries]


@pytest.mark.parametrize(
    ("compatibility", "provided", "kept"),
    [
        ("Backward", [FIRST], [FIRST]),
        ("Backward", [FIRST, WITHOUT], [WITHOUT]),
        ("BackwardTransitive", [FIRST, WITHOUT], [FIRST, WITHOUT]),
        ("BackwardTransitive", [FIRST, WITHOUT, WITHOUT], [FIRST, WITHOUT]),
        ("BackwardTransitive", [FIRST, WITHOUT, FIRST], [WITHOUT, FIRST]),
        ("BackwardTransitive", [{**FIRST, "title": str(n)} for n in range(30)], None),
        ("Backward", ["schemas/a.json"], []),
        ("Backward", [{"title": "x" * accepted.LARGEST}], []),
        ("BackwardTransitive", [{"title": c * (accepted.LARGEST // 2)} for c in "abc"], [{"title": "c" * (1 << 17)}]),
    ],
)
def test_what_is_kept_is_bounded(compatibility: str, provided: list[Any], kept: list[Any] | None):
    result = schemas(after(*provided, compatibility=compatibility))
    assert result == (provided[-accepted.STATES :] if kept is None else kept)


@pytest.mark.parametrize(("state", "kept"), [("Draft", 0), ("Active", 1), ("Deprecated", 1), ("Retired", 0)])
def test_only_what_is_published_is_held_on_to(state: str, kept: int):
    assert len(accepted.following(parsed(event_type(FIRST, state=state)), {"accepted": after(FIRST)})) == kept


@pytest.mark.parametrize(
    ("compatibility", "before", "now", "misfits"),
    [
        ("Backward", [FIRST, WITHOUT], OTHER, 0),
        ("BackwardTransitive", [FIRST, WITHOUT], OTHER, 1),
        ("FullTransitive", [FIRST, WITHOUT], OTHER, 2),
        ("Backward", [FIRST], OTHER, 1),
        ("None", [FIRST], OTHER, 0),
        ("Full", [], OTHER, 0),
    ],
)
def test_a_type_is_held_against_what_was_accepted(compatibility: str, before: list[Any], now: Any, misfits: int):
    status = {"accepted": after(*before, compatibility="FullTransitive")}
    assert len(accepted.misfits(parsed(event_type(now, compatibility)), status)) == misfits


@pytest.mark.parametrize(
    ("compatibility", "before", "old", "new", "refused"),
    [
        pytest.param("Backward", [FIRST, WITHOUT], WITHOUT, OTHER, False, id="the last state alone"),
        pytest.param("BackwardTransitive", [FIRST, WITHOUT], WITHOUT, OTHER, True, id="every state"),
        pytest.param("Backward", [], FIRST, OTHER, True, id="nobody has accepted it yet"),
        pytest.param("Backward", [FIRST], OTHER, FIRST, False, id="what was changed behind our back is mended"),
        pytest.param("Backward", [FIRST], OTHER, OTHER, False, id="or something else is changed"),
        pytest.param("Backward", [FIRST], OTHER, thing(size="boolean"), True, id="or it is broken once more"),
    ],
)
def test_the_webhook_holds_a_change_against_what_was_accepted(
    compatibility: str, before: list[Any], old: Any, new: Any, refused: bool
):
    status = {"accepted": after(*before, compatibility=compatibility)}
    existing, asked = event_type(old, compatibility), event_type(new, compatibility)
    known = inventory(existing, shop.subscription("x"))
    verdict = judged(known, request("UPDATE", {**asked, "status": status}, {**existing, "status": status}))
    assert bool(verdict.errors) is refused, verdict
    assert all("kitchen-order-confirmed (app kitchen)" in error.message for error in verdict.errors)


def _is_compatible(cluster: Cluster, kind: dict[str, Any]) -> bool:
    return bool(shop.conditions(cluster, kind).get("Compatible", {}).get("status") == "True")


@contextlib.asynccontextmanager
async def operating(cluster: Cluster, namespace: str) -> AsyncIterator[Operator]:
    """Yield an operator that ends before the test does."""
    settings = Settings(namespaces=(namespace,), host="127.0.0.1", port=0, lease=False, observe=0.0)
    made = Operator(settings, login(cluster))
    task = asyncio.create_task(made.run())
    await until(lambda: made.synced.is_set() or task.done(), "it has seen everything")
    yield made
    await until(lambda: made.queue.idle, "all is done")
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


@pytest.mark.real
async def test_an_unvalidated_breaking_change_is_reported_on_both_sides_until_it_is_fixed(
    cluster: Cluster, namespace: str
):
    def kind(schema: Any, **how: Any) -> dict[str, Any]:
        return shop.event_type(namespace, versions=[{"name": "v1", "schema": schema}], **how)

    manifest = cluster.apply(shop.subscription(namespace))
    cluster.apply(kind(FIRST))
    async with operating(cluster, namespace):
        await until(lambda: shop.conditions(cluster, kind(FIRST)).get("Compatible", {}).get("status"), "it is judged")
        assert schemas(shop.status(cluster, kind(FIRST))["accepted"]) == [FIRST]

    cluster.apply(kind(OTHER))
    for _ in range(2):  # a second operator says the same, and writes nothing for it
        async with operating(cluster, namespace):
            output = await until(lambda: shop.conditions(cluster, kind(OTHER)), "the type is looked at")
            assert (output["Compatible"]["status"], output["Compatible"]["reason"]) == ("False", "IncompatibleSchema")
            assert "kitchen-order-confirmed (app kitchen)" in output["Compatible"]["message"]
            assert "size" in output["Compatible"]["message"]
            assert output["Ready"]["status"] == "False"

            def reader() -> Any:
                conditions = shop.conditions(cluster, manifest)
                return conditions if conditions["VersionAccepted"]["reason"] == "IncompatibleSchema" else None

            published = await until(reader, "the reader is told")
            assert published["VersionAccepted"]["status"] == published["Ready"]["status"] == "True", (
                "it is still delivered"
            )
            assert "size" in published["VersionAccepted"]["message"]
        warned = [event for event in shop.events(cluster, namespace) if event["reason"] == "IncompatibleSchema"]
        assert {item["regarding"]["kind"] for item in warned} == {"EventType", "EventSubscription"}
        assert len(warned) == 2, "once each"
        assert {item["type"] for item in warned} == {"Warning"}
        assert schemas(shop.status(cluster, kind(OTHER))["accepted"]) == [FIRST]

    async with operating(cluster, namespace):
        fixes: tuple[tuple[dict[str, Any], Any], ...] = (
            (kind(FIRST), FIRST),
            (kind(OTHER, compatibility="None"), OTHER),
            (kind(OTHER), OTHER),
        )
        for change, held in fixes:
            cluster.apply(change)
            await until(partial(_is_compatible, cluster, change), "it is accepted")
            assert schemas(shop.status(cluster, change)["accepted"]) == [held]
        await until(
            lambda: shop.conditions(cluster, manifest)["VersionAccepted"]["reason"] == "Accepted", "the reader is told"
        )


@pytest.mark.real
async def test_the_webhook_knows_every_state_of_a_transitive_type(
    cluster: Cluster, namespace: str, operator: Start, ports: Ports
):
    def kind(schema: Any) -> dict[str, Any]:
        versions = [{"name": "v1", "schema": schema}]
        return shop.event_type(namespace, versions=versions, compatibility="BackwardTransitive")

    cluster.apply(kind(FIRST))
    cluster.apply(shop.subscription(namespace))
    port = ports.take()
    async with webhooks.configured(cluster, namespace, port, failurePolicy="Fail"):
        await operator(webhook_port=port)
        await webhooks.watching(cluster, namespace)
        await webhooks.asked(cluster, kind(WITHOUT))
        await until(lambda: len(shop.status(cluster, kind(WITHOUT)).get("accepted", ())) == 2, "both are kept")
        refused = await webhooks.refusal(cluster, kind(OTHER))
    assert "cannot read earlier events" in refused
    assert "kitchen-order-confirmed" in refused
