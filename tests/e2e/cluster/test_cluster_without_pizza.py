"""The chart tidings alone: services that use Dapr without Tidings are adopted, dead-lettered, replayed and forgotten.

Run last: it takes away what the other tests have installed.
"""

from __future__ import annotations

import json
import re
import subprocess
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from string import Template
from typing import Any

import httpx2
import pytest
import yaml
from tests.e2e.cluster.conftest import CONTEXT, HERE, KEEP, REPOSITORY, SERVER_IMAGES, TAG, Installed, installed_on
from tests.support.livecluster import Cluster, check_images, until
from typer.testing import CliRunner, Result

from tidings_cli.commands import app as tidings
from tidings_cli.programs import ensure

SHOP = Template((HERE / "foreign/shop.yaml").read_text()).substitute(
    REPOSITORY=REPOSITORY, TAG=TAG, **{f"{server.upper()}_IMAGE": image for server, image in SERVER_IMAGES.items()}
)
OLD = "subscriptions.dapr.io,resiliencies.dapr.io"
CRM = "http://127.0.0.1:8080"
FORGETTING: dict[str, Any] = {
    "apiVersion": "tidings.dev/v1alpha1",
    "kind": "EventSubscription",
    "metadata": {"name": "billing-forgotten"},
    "spec": {
        "events": [{"type": "tidings.subjectForgotten", "versions": ["v1"]}],
        "consumer": {"appId": "billing", "kit": False},
        "routes": {"default": "/forget"},
    },
}


class Shop:
    """A service in Node that sells and invoices, and one in Python that registers customers."""

    def __init__(self, cluster: Cluster) -> None:
        self.cluster = cluster

    def sell(self, order: str, customer: str) -> None:
        url = f"http://127.0.0.1:8080/sales/{order}/{customer}"
        self._run(
            "billing", "node", "-e", f"fetch('{url}', {{method: 'POST'}}).then((r) => process.exit(r.ok ? 0 : 1))"
        )

    def register(self, customer: str) -> None:
        self._run("crm", "python", "-c", f"import urllib.request as u; u.urlopen('{CRM}/register/{customer}', b'')")

    def invoices(self) -> Counter[tuple[str, str]]:
        lines = self._run("billing", "sh", "-c", "cat /data/invoices 2>/dev/null || true").splitlines()
        return Counter((json.loads(line)["order"], json.loads(line)["customer"]) for line in lines)

    def customers(self) -> Counter[str]:
        code = f"import urllib.request as u; print(u.urlopen('{CRM}/customers').read().decode())"
        return Counter(json.loads(self._run("crm", "python", "-c", code)))

    def break_both(self) -> None:
        for app in ("billing", "crm"):
            self._run(app, "touch", "/data/broken")

    def mend_both(self) -> None:
        for app in ("billing", "crm"):
            self._run(app, "rm", "/data/broken")

    def settled(self, orders: dict[str, str]) -> None:
        """Wait until exactly these orders are invoiced, and their customers registered, each once."""
        invoices, customers = Counter(orders.items()), Counter(orders.values())
        until(f"{invoices}", lambda: self.invoices() == invoices)
        until(f"{customers}", lambda: self.customers() == customers)

    def _run(self, app: str, *words: str) -> str:
        return self.cluster.kubectl("exec", f"deployment/{app}", "-c", app, "--", *words)


@pytest.fixture
def bare() -> Iterator[Installed]:
    """Yield a cluster with Dapr and a shop, without Tidings."""
    result = installed_on(CONTEXT, "shop-e2e")
    result.clean()
    check_images(result.apps.context, SHOP)
    result.apps.kubectl("create", "namespace", result.apps.namespace)
    result.apps.kubectl("apply", "-f", "-", stdin=SHOP)
    result.apps.roll_out(300)
    yield result
    if not KEEP:
        result.clean()


def test_foreign_services_are_adopted_dead_lettered_replayed_and_forgotten(bare: Installed, tmp_path: Path) -> None:
    cluster, shop = bare.apps, Shop(bare.apps)
    shop.sell("o-1", "ann")
    shop.register("ann")
    shop.settled({"o-1": "ann"})

    adopted = adopt(cluster, tmp_path)
    bare.install_tidings("--set", "archive.keysSecret=personal-keys")
    before = routes(cluster)
    cluster.kubectl("apply", "-f", "-", stdin=yaml.safe_dump_all([*adopted, FORGETTING]))
    cluster.kubectl("wait", "--for=condition=Ready", "esub", "--all", "--timeout=120s")
    cluster.kubectl("rollout", "status", "deployment/archive", "--timeout=300s")
    cluster.kubectl("delete", "subscriptions.dapr.io/sales", "subscriptions.dapr.io/customers", "resiliency/twice")
    until("the operator's Subscriptions have the same routes", lambda: before.items() <= routes(cluster).items())
    shop.sell("o-2", "ben")
    shop.register("ben")
    shop.settled({"o-1": "ann", "o-2": "ben"})

    with archive_of(cluster) as archive:
        # By its map, the archive attributes the dead letters of services without the SDK.
        until("the map has both", lambda: {"billing", "crm"} <= consumers(archive), patience=180)
        shop.break_both()
        shop.sell("o-3", "cleo")
        shop.register("cleo")
        failed = {("billing", "billing-shop.itemsold.v1"), ("crm", "crm-customers")}
        until("both are dead letters", lambda: letters(archive, "open") == failed)
        shop.mend_both()
        replayed = run(archive, "dlq", "replay", "--all", "--yes", "--timeout", "0")
        shop.settled({"o-1": "ann", "o-2": "ben", "o-3": "cleo"})
        # Services without the SDK confirm nothing. The archive records it after the broker has the message.
        until(f"both are sent: {replayed.output}", lambda: letters(archive, "sent") == failed)

        forgotten = run(archive, "forget", "cleo", "--archive", archive["TIDINGS_ARCHIVE_URL"], "--yes")
        assert "had no key of cleo" in forgotten.stderr  # nothing of hers was encrypted
        shop.settled({"o-1": "ann", "o-2": "ben"})


def adopt(cluster: Cluster, folder: Path) -> list[dict[str, Any]]:
    """Adopt the namespace as the documentation says; return the resources, with replays."""
    old = folder / "old.yaml"
    old.write_text(cluster.kubectl("get", OLD, "-o", "yaml"))
    adopted = run({}, "adopt", str(old))
    assert adopted.exit_code == 0, adopted.output
    assert set(re.findall(r"\[([a-z-]+)\]", adopted.stderr)) == {"no-dead-letters"}, adopted.stderr
    documents: list[dict[str, Any]] = list(yaml.safe_load_all(adopted.stdout))
    for document in documents:
        if document["kind"] == "EventSubscription":
            del document["spec"]["delivery"]["deadLetter"]["replay"]
    return documents


def routes(cluster: Cluster) -> dict[tuple[str, str], str]:
    """Return the default route of each app and topic in the cluster's Subscriptions."""
    items = json.loads(cluster.kubectl("get", "subscriptions.v2alpha1.dapr.io", "-o", "json"))["items"]
    return {(app, item["spec"]["topic"]): item["spec"]["routes"]["default"] for item in items for app in item["scopes"]}


@contextmanager
def archive_of(cluster: Cluster) -> Iterator[dict[str, str]]:
    """Forward a local port to the archive; yield the environment with its URL and token."""
    kubectl = [str(ensure("kubectl")["kubectl"]), "--context", cluster.context, "--namespace", cluster.namespace]
    token = "go-template={{.data.ARCHIVE_TOKEN | base64decode}}"
    environment = {"TIDINGS_ARCHIVE_TOKEN": cluster.kubectl("get", "secret", "archive-token", "-o", token)}
    with subprocess.Popen(
        [*kubectl, "port-forward", "service/archive", ":80"], stdout=subprocess.PIPE, text=True
    ) as process:
        try:
            assert process.stdout
            [port] = re.findall(r"127\.0\.0\.1:(\d+)", process.stdout.readline())
            yield {**environment, "TIDINGS_ARCHIVE_URL": f"http://127.0.0.1:{port}"}
        finally:
            process.terminate()


def run(environment: dict[str, str], *words: str) -> Result:
    return CliRunner().invoke(tidings, words, env=environment)


def consumers(environment: dict[str, str]) -> set[str]:
    """Return the apps on the archive's map; none before the kubelet has mounted it."""
    response = httpx2.get(
        f"{environment['TIDINGS_ARCHIVE_URL']}/console/map",
        headers={"Authorization": f"Bearer {environment['TIDINGS_ARCHIVE_TOKEN']}"},
    )
    return {entry["app"] for entry in response.json()["subscriptions"]} if response.is_success else set()


def letters(environment: dict[str, str], state: str) -> set[tuple[str, str]]:
    """Return app and subscription of each dead letter in a state."""
    listed = run(environment, "dlq", "list", "--state", state, "-o", "json")
    assert listed.exit_code == 0, listed.output
    return {(letter["app"], letter["subscription"]) for letter in json.loads(listed.stdout)}
