"""Tests of an installed system: order, apply, wait, delete; and the handling of mistakes."""

from __future__ import annotations

import asyncio
import itertools
import json
import time
from functools import partial
from typing import Any

import pytest
import yaml
from scenarios.counting import PARCEL, Numbers
from tests.e2e.cluster.conftest import NUMBERED, Guest, Installed
from tests.support.livecluster import Cluster, until

TOLD: dict[str, Any] = next(yaml.safe_load_all((NUMBERED / "receiver/contracts/subscriptions.yaml").read_text()))
PARCELS = map("running-{}".format, itertools.count())
TOUCHED = ("Closing existing", "Adding Component", "atal error", '"level":"fatal"')
"""What a sidecar says when something of its own changes; once a minute it also goes through all there is."""


def apply(cluster: Cluster, *manifests: object, check: bool = True) -> str:
    return cluster.kubectl("apply", "-f", "-", stdin=yaml.safe_dump_all(manifests), check=check)


def broken(name: str, mistake: dict[str, Any]) -> dict[str, Any]:
    """Return a subscription of a real app with something wrong."""
    spec = {"events": [{"type": "orders.orderPlaced", "versions": ["v1"]}], "consumer": {"appId": "loyalty"}, **mistake}
    return {**TOLD, "metadata": {"name": name}, "spec": spec}


def test_everything_is_ready(installed: Installed) -> None:
    installed.apps.kubectl("wait", "--for=condition=Ready", "esub", "--all", "--timeout=120s")
    installed.apps.kubectl("wait", "--for=condition=Ready", "evtype", "--all", "--timeout=120s")
    bare = {
        pod.metadata.labels["app.kubernetes.io/name"]
        for pod in installed.apps.pods()
        if "daprd" not in {container.name for container in [*pod.spec.containers, *(pod.spec.init_containers or ())]}
    }
    assert bare == {"storefront", "saas", "smtp", "nats", "redis", "topology"}


@pytest.mark.parametrize("deliver", [True, False], ids=["delivered", "picked-up"])
def test_an_order_is_completed(guest: Guest, deliver: bool) -> None:
    guest.eaten(guest.order(deliver=deliver))


async def test_a_subscription_brings_a_consumer_into_play_and_its_end_takes_it_out(installed: Installed) -> None:
    cluster = installed.apps
    before = cluster.lives()
    early, late, after = (next(PARCELS) for _ in range(3))
    async with cluster.http_async() as client:
        numbers = Numbers(cluster.url, client)
        await numbers.send([early])  # nobody reads it yet
        apply(cluster, TOLD)
        cluster.kubectl("wait", "--for=condition=Ready", "esub/receiver-told", "--timeout=60s")
        await numbers.send([late])
        report = await numbers.settled([early, late], patience=60)
        assert report.faultless, str(report)
        cluster.kubectl("delete", "esub/receiver-told")
        until("it has no Subscription any more", lambda: not _subscriptions(cluster, "receiver"))
        until("its sidecar reads no more", lambda: "receiver-told" not in reads(cluster, "receiver"))
        await numbers.send([after])
        await asyncio.sleep(5)  # long enough for what would still come
        removed = await numbers.report([after])
    assert (removed.received, len(removed.lost)) == (0, PARCEL)
    assert cluster.lives() == before, "something was started again"


def _subscriptions(cluster: Cluster, app: str) -> list[str]:
    return cluster.kubectl("get", "subscriptions.dapr.io", "-l", f"tidings.dev/app={app}", "-o", "name").split()


def reads(cluster: Cluster, app: str) -> str:
    """Return the subscriptions reported by the app's sidecar."""
    asked = (
        "import os, urllib.request as u; r = u.Request('http://127.0.0.1:3500/v1.0/metadata',"
        " headers={'dapr-api-token': os.environ['DAPR_API_TOKEN']}); print(u.urlopen(r).read().decode())"
    )
    output = cluster.kubectl("exec", f"deployment/{app}", "-c", app, "--", "python", "-c", asked)
    return json.dumps(json.loads(output.splitlines()[0]).get("subscriptions"))


PLACED = "orders.orderPlaced"
MISTAKES: dict[str, tuple[dict[str, Any], str]] = {
    "cel-malformed": (
        {"events": [{"type": PLACED, "versions": ["v1"], "filters": [{"cel": "event.data.totalCents >"}]}]},
        "CEL",
    ),
    "route-malformed": ({"routes": {"rules": [{"match": "event.type ==", "path": "/x"}]}}, "CEL"),
    "version-unknown": ({"events": [{"type": PLACED, "versions": ["v9"]}]}, "v9"),
    "type-unknown": ({"events": [{"type": "orders.orderEaten"}]}, "orders.orderEaten"),
}


@pytest.mark.parametrize("webhooks", [True, False], ids=["refused", "in-its-status"])
def test_a_broken_subscription_never_touches_a_sidecar(installed: Installed, guest: Guest, webhooks: bool) -> None:
    cluster = installed.apps
    if not webhooks:
        cluster.kubectl("delete", "validatingwebhookconfiguration", "tidings")
    before, began = cluster.lives(), time.monotonic()
    children = _subscriptions(cluster, "loyalty")
    output = {name: apply(cluster, broken(name, spec), check=False) for name, (spec, _) in MISTAKES.items()}
    try:
        for name, (_, word) in MISTAKES.items():
            assert webhooks or "created" in output[name], output[name]
            if "created" in output[name]:
                output[name] = until(f"{name} is refused in its status", partial(_refusal, cluster, name))
            assert word in output[name], output[name]
        time.sleep(5)
        assert cluster.lives() == before
        assert _subscriptions(cluster, "loyalty") == children
        logs = cluster.sidecar_logs(round(time.monotonic() - began))
        assert {
            pod: line for pod, log in logs.items() for line in log.splitlines() if any(map(line.count, TOUCHED))
        } == {}
        guest.eaten(guest.order())
    finally:
        cluster.kubectl("delete", "esub", *MISTAKES, "--ignore-not-found")
        if not webhooks:
            installed.install_tidings()


def _refusal(cluster: Cluster, name: str) -> str:
    ready = cluster.conditions("eventsubscriptions", name).get("Ready", {})
    return f"{ready['reason']}: {ready['message']}" if ready.get("status") == "False" else ""


def test_a_schema_change_that_breaks_readers_is_refused_with_their_names(installed: Installed) -> None:
    cluster = installed.apps
    types = json.loads(cluster.kubectl("get", "evtype", "-o", "json"))["items"]
    placed = next(item for item in types if item["spec"]["type"] == "orders.orderPlaced")
    name = placed["metadata"]["name"]
    subscriptions = json.loads(cluster.kubectl("get", "esub", "-o", "json"))["items"]
    readers = {
        subscription["metadata"]["name"]
        for subscription in subscriptions
        if "orders.orderPlaced" in [events.get("type") for events in subscription["spec"]["events"]]
    }
    assert readers
    schema = placed["spec"]["versions"][0]["schema"]
    lost = schema["required"].pop()
    del schema["properties"][lost]
    output = cluster.kubectl("replace", "-f", "-", stdin=json.dumps(placed), check=False)
    assert "denied the request" in output
    assert {reader for reader in readers if reader not in output} == set(), output
    assert "denied the request" in cluster.kubectl("delete", "evtype", name, check=False)
    now = json.loads(cluster.kubectl("get", "evtype", name, "-o", "json"))
    assert now["metadata"]["generation"] == placed["metadata"]["generation"]
