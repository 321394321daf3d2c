"""Rejections, warnings and defaults of the webhooks, through the API server."""

from __future__ import annotations

import asyncio
import os
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml
from tests.operator import shop, webhooks
from tests.operator.cluster import ADMIN, Cluster, path_of
from tests.operator.conftest import Start, until
from tests.operator.webhooks import Guarded, guarded

from tidings_cli.programs import ensure
from tidings_cli.testing.programs import Ports
from tidings_plan.resources import contracts_folders, load, writing

__all__ = ["guarded"]
pytestmark = pytest.mark.real
ROOT = Path(__file__).parents[2]
V1 = {"type": "object", "properties": {"total": {"type": "integer"}}, "required": ["total"]}
RETIRED = [{"name": "v1", "schema": V1}, {"name": "v2", "schema": V1, "state": "Retired"}]
ENDING = {"effective": "2026-01-01", "removal": "2999-01-01", "alternative": "v2"}


def versions(**how: Any) -> list[dict[str, Any]]:
    return [{"name": "v1", "schema": V1, **how}, {"name": "v2", "schema": V1}]


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ({"filters": webhooks.MALFORMED}, ("spec.events[0].filters[0].cel", "not valid CEL")),
        ({"filters": [{"cel": "event.data.total"}]}, ("spec.events[0].filters[0].cel", "not bool")),
        ({"filters": [{"not": {"not": {"not": {"not": {"exakt": {"a": 1}}}}}}]}, ("exakt", "exact")),
        ({"type": "orders.orderConfirmd"}, ("spec.events[0].type", "orders.orderConfirmed")),
        ({"versions": ["v2"]}, ("spec.events[0].versions[0]", "retired", "v1")),
        ({"versions": ["v3"]}, ("spec.events[0].versions[0]", "Known: v1, v2")),
        ({"consumer": {"appId": "kitchen", "kit": False}}, ("consumer.kit", "EventSubscription/", "/first")),
        ({}, ("/first already reads", "add filters to both")),
        ({"startFrom": "Latest"}, ("spec.startFrom", "BestEffort")),
    ],
)  # fmt: skip
async def test_a_wrong_subscription_is_rejected_with_a_remedy(
    cluster: Cluster, namespace: str, guarded: Guarded, spec: dict[str, Any], message: tuple[str, ...]
) -> None:
    cluster.apply(shop.event_type(namespace, versions=RETIRED))
    cluster.apply(shop.subscription(namespace, "first"))
    await guarded()
    # A dry run of a whole set lets by what the set itself may hold: a new type, or a new version of one.
    may_come = spec.get("type") == "orders.orderConfirmd" or spec.get("versions") == ["v3"]
    for dry in (False,) if may_come else (True, False):
        refused = await webhooks.refusal(cluster, shop.subscription(namespace, "second", **spec), dry=dry)
        assert not [item for item in ("validate.tidings.dev", *message) if item not in refused], refused
    assert cluster.get(path_of(shop.subscription(namespace, "second"))) is None


async def test_a_type_and_its_subscription_in_one_go(cluster: Cluster, namespace: str, guarded: Guarded) -> None:
    """No time passes between them: who comes second must not be judged by an older state."""
    await guarded()
    for fact in ("Placed", "Paid", "Baked", "Boxed", "Delivered"):
        name, app = f"orders.order{fact}", fact.lower()
        manifest = shop.subscription(namespace, app, type=name, consumer={"appId": app})
        await webhooks.asked(cluster, shop.event_type(namespace, name))
        await webhooks.asked(cluster, manifest)
        assert not await _deletion(cluster, manifest)
        assert not await _deletion(cluster, shop.event_type(namespace, name)), "its only reader is gone already"


@pytest.mark.parametrize(
    ("how", "warned"),
    [
        ({"enforcement": "BestEffort"}, "as soon as"),
        ({"annotations": {"tidings.dev/await-type": "true"}}, "as soon as"),
    ],
)
async def test_a_subscription_may_wait_for_its_type(
    cluster: Cluster, namespace: str, guarded: Guarded, how: dict[str, Any], warned: str
) -> None:
    """For tools that apply subscriptions before types, as Helm does."""
    await guarded()
    manifest = shop.subscription(namespace)
    manifest["metadata"]["annotations"] = how.get("annotations", {})
    manifest["spec"] |= {name: value for name, value in how.items() if name != "annotations"}
    _, warnings = await webhooks.asked(cluster, manifest)
    assert any(warned in warning for warning in warnings), warnings
    await webhooks.asked(cluster, shop.event_type(namespace))
    await until(lambda: shop.dapr_subscriptions(cluster, namespace), "it is programmed after all")


CHANGES = {
    "a field is taken away": ([{"name": "v1", "schema": {"type": "object"}}], "total"),
    "a field changes its type": (
        [{"name": "v1", "schema": {**V1, "properties": {"total": {"type": "string"}}}}],
        "total",
    ),
    "a version is taken away": ([{"name": "v2", "schema": V1}], "v1 was Active and is removed"),
    "a version is retired": ([{"name": "v1", "schema": V1, "state": "Retired"}], "retired"),
}


@pytest.mark.parametrize("change", CHANGES)
async def test_a_breaking_change_of_a_type_names_the_subscriptions_that_it_breaks(
    cluster: Cluster, namespace: str, guarded: Guarded, change: str
) -> None:
    after, output = CHANGES[change]
    kind = cluster.apply(shop.event_type(namespace, versions=versions()))
    for app in ("kitchen", "archive-of-orders"):
        cluster.apply(shop.subscription(namespace, f"{app}-wish", consumer={"appId": app}))
    later = shop.subscription(namespace, "later", versions=["v2"], consumer={"appId": "later"})
    cluster.apply(later)
    await guarded()
    refused = await webhooks.refusal(
        cluster, shop.event_type(namespace, versions=[*after, *([] if after[0]["name"] == "v2" else versions()[1:])])
    )
    assert output in refused
    assert "kitchen-wish" in refused
    assert "archive-of-orders-wish" in refused
    assert "later" not in refused
    assert cluster.get(path_of(kind))["spec"] == kind["spec"]

    optional = {**V1, "properties": {"total": {"type": "integer"}, "note": {"type": "string"}}}
    wider = [{"name": "v1", "schema": optional}, *versions()[1:]]
    await webhooks.asked(cluster, shop.event_type(namespace, versions=wider))


async def test_a_type_that_is_consumed_is_not_deleted(cluster: Cluster, namespace: str, guarded: Guarded) -> None:
    kind, manifest = shop.event_type(namespace), shop.subscription(namespace)
    cluster.apply(kind), cluster.apply(manifest)
    await guarded()
    refused = await _deletion(cluster, kind)
    assert "kitchen-order-confirmed (app kitchen)" in refused
    assert "deprecate" in refused
    assert not await _deletion(cluster, manifest)
    assert not await _deletion(cluster, kind)
    assert cluster.get(path_of(kind)) is None


async def test_earlier_errors_do_not_block_fixing_something_else(
    cluster: Cluster, namespace: str, guarded: Guarded
) -> None:
    cluster.apply(shop.event_type(namespace, versions=RETIRED))
    stalled: dict[str, Any] = {"versions": ["v2"]}
    cluster.apply(shop.subscription(namespace, **stalled))  # before there was a webhook
    await guarded()
    _, warnings = await webhooks.asked(cluster, shop.subscription(namespace, **stalled, maxConcurrency=3))
    assert any("retired" in warning for warning in warnings), warnings
    assert "not valid CEL" in await webhooks.refusal(
        cluster, shop.subscription(namespace, **stalled, filters=webhooks.MALFORMED)
    )


async def test_deprecation_is_warned_of_at_both_ends(
    cluster: Cluster, namespace: str, guarded: Guarded, tmp_path: Path
) -> None:
    """As a person sees it: kubectl prints the warnings."""
    cluster.apply(shop.event_type(namespace, versions=versions()))
    cluster.apply(shop.subscription(namespace))
    await guarded()
    kind = shop.event_type(namespace, versions=versions(state="Deprecated", deprecation=ENDING))
    late = shop.subscription(namespace, "late", consumer={"appId": "late"})

    deprecated = await _kubectl(cluster, tmp_path, kind)
    assert "Warning: orders.orderConfirmed v1 is deprecated" in deprecated
    assert "kitchen-order-confirmed (app kitchen)" in deprecated
    published = await _kubectl(cluster, tmp_path, late)
    assert "Warning: spec.events[0].versions[0]: orders.orderConfirmed v1 is deprecated" in published
    assert "Read v2 instead" in published
    assert "serverside-applied" in published


async def test_defaults_that_a_schema_cannot_express_are_filled_in(
    cluster: Cluster, namespace: str, guarded: Guarded
) -> None:
    await guarded()
    for dry in (True, False):
        kept, _ = await webhooks.asked(cluster, shop.event_type(namespace), dry=dry)
        assert kept["spec"]["domain"] == "orders"
    await webhooks.asked(cluster, shop.subscription(namespace))
    order = shop.replay(namespace)
    named, _ = await webhooks.asked(cluster, order, dry=True)
    assert named["spec"]["requestedBy"] == "admin", "whatever is given"
    del order["spec"]["requestedBy"]
    kept, _ = await webhooks.asked(cluster, order)
    assert kept["spec"]["requestedBy"] == "admin", "the user of the request"
    assert "EventSubscription nobody does not exist" in await webhooks.refusal(
        cluster, shop.replay(namespace, "lost", target={"subscription": "nobody"})
    )


@pytest.mark.timeout(900)
async def test_a_whole_system_is_taken_in_one_go(
    cluster: Cluster, namespace: str, guarded: Guarded, tmp_path: Path
) -> None:
    """Plant-Based Pizza, as `tidings render --declared` prints it, applied by kubectl without a pause."""
    await guarded()
    resources = writing.documents(load(contracts_folders(ROOT), namespace=namespace))
    printed = await _kubectl(cluster, tmp_path, *resources)
    assert printed.count("serverside-applied") == len(resources) > 70
    manifests = [resource for resource in resources if resource["kind"] == "EventSubscription"]
    await until(lambda: all(_is_ready(cluster, item) for item in manifests), "all are Ready", 300.0)


async def test_with_the_webhook_down_nothing_wrong_is_programmed(
    cluster: Cluster, namespace: str, operator: Start, ports: Ports
) -> None:
    wrong: dict[str, dict[str, Any]] = {
        "malformed": {"filters": webhooks.MALFORMED},
        "unknown": {"type": "orders.orderConfirmd"},
        "retired": {"versions": ["v2"]},
    }
    async with webhooks.configured(cluster, namespace, ports.take()):  # nobody listens there
        await webhooks.asked(cluster, shop.event_type(namespace, versions=RETIRED))
        kept = [
            (await webhooks.asked(cluster, shop.subscription(namespace, app, consumer={"appId": app}, **spec)))[0]
            for app, spec in wrong.items()
        ]
        good, _ = await webhooks.asked(cluster, shop.subscription(namespace))
        await operator()
        for entry in (*kept, good):
            await until(lambda entry=entry: shop.conditions(cluster, entry), "it has a status")  # type: ignore[misc]
    assert {shop.conditions(cluster, item)["Ready"]["reason"] for item in kept} == {
        "MalformedCel", "UnknownType", "RetiredVersion",
    }  # fmt: skip
    assert shop.resiliencies(cluster, namespace).keys() == {"kitchen"}
    assert all(
        dapr_subscription["scopes"] == ["kitchen"]
        for dapr_subscription in shop.dapr_subscriptions(cluster, namespace).values()
    )


async def test_who_has_not_seen_everything_does_not_judge(cluster: Cluster, namespace: str, guarded: Guarded) -> None:
    made = await guarded()
    made.synced.clear()
    refused = await webhooks.refusal(cluster, shop.event_type(namespace))
    assert "failed calling webhook" in refused
    made.synced.set()
    await webhooks.asked(cluster, shop.event_type(namespace))


def _is_ready(cluster: Cluster, resource: dict[str, Any]) -> bool:
    return bool(shop.conditions(cluster, resource).get("Ready", {}).get("status") == "True")


async def _deletion(cluster: Cluster, resource: dict[str, Any]) -> str:
    """Delete a resource; return why not, if it is refused."""

    def delete() -> str:
        response = cluster.http.delete(path_of(resource), headers={"Authorization": f"Bearer {ADMIN}"})
        return str(response.json()["message"]) if response.is_error else ""

    return await asyncio.to_thread(delete)


async def _kubectl(cluster: Cluster, folder: Path, *resources: dict[str, Any]) -> str:
    """Apply with kubectl and return all that it prints."""
    file = folder / "resource.yaml"
    file.write_text(yaml.safe_dump_all(resources))
    kubectl = ensure("kubectl", report=print)["kubectl"]

    def run() -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [kubectl, "apply", "--server-side", "--force-conflicts", "--field-manager=test", "-f", file],
            env={**os.environ, "KUBECONFIG": str(cluster.kubeconfig(ADMIN)), "HOME": str(folder)},
            capture_output=True, text=True, check=False, timeout=300,
        )  # fmt: skip

    done = await asyncio.to_thread(run)
    assert done.returncode == 0, done.stderr
    return done.stdout + done.stderr
