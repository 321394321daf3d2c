"""Both charts on a live cluster. Only `make e2e` runs these: they install, kill and uninstall.

E2E_CONTEXT names the context (`current`: the one at hand, which must be kind's), E2E_REPOSITORY and E2E_TAG the images.
E2E_KEEP=1 works on what an earlier run has left, and leaves it.
"""

from __future__ import annotations

import base64
import json
import os
import secrets
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml
from tests.support.livecluster import CURRENT, Cluster, check_images, chosen, current_context, until

HERE = Path(__file__).parent
ROOT = HERE.parents[2]
CONTEXT = os.environ.get("E2E_CONTEXT", "")
REPOSITORY, TAG = os.environ.get("E2E_REPOSITORY", "plant-based-pizza"), os.environ.get("E2E_TAG", "0.1.0")
KEEP = bool(os.environ.get("E2E_KEEP"))
SYSTEM, PIZZA = "tidings-system", "pizza-e2e"
NUMBERED = ROOT / "tests/chaos/numbered/services"


def _server_image(server: str) -> str:
    """Return the image of `make server-images`, or the chart's if the images come from a registry."""
    if REPOSITORY == "plant-based-pizza":
        return f"{REPOSITORY}/{server}:{TAG}"
    return str(yaml.safe_load((ROOT / "charts/pizza/values.yaml").read_text())[server]["image"])


SERVER_IMAGES = {server: _server_image(server) for server in ("nats", "redis", "postgres")}


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if HERE in item.path.parents:
            item.add_marker(pytest.mark.cluster)
            item.add_marker(pytest.mark.timeout(1800))
            if not CONTEXT:
                item.add_marker(pytest.mark.skip("NOT TESTED, no cluster was named: make e2e"))


@dataclass(frozen=True)
class Installed:
    """The operator, and the apps of one namespace with their archive."""

    tidings: Cluster
    apps: Cluster

    def install_tidings(self, *more: str) -> None:
        """Install or upgrade the operator, and wait until the API server trusts it: what it cannot ask, it lets by."""
        value = [
            f"image.repository={REPOSITORY}/operator",
            f"image.tag={TAG}",
            f"archive.image.repository={REPOSITORY}/archive",
            f"archive.image.tag={TAG}",
            f"archive.namespaces={{{self.apps.namespace}}}",
            "archive.replayRequesters={tracking}",
        ]
        self._install(self.tidings, "tidings", *value, more=more)
        # Not `--wait`: the archive waits for the pizzeria's broker.
        self.tidings.kubectl("rollout", "status", "deployment/tidings-operator", "--timeout=300s")
        until("the webhooks' bundles hold every operator's certificate", self._is_trusted)

    def _is_trusted(self) -> bool:
        configuration = json.loads(
            self.tidings.kubectl("get", "validatingwebhookconfiguration", "tidings", "-o", "json")
        )
        bundles = [
            base64.b64decode(webhook["clientConfig"].get("caBundle", "")) for webhook in configuration["webhooks"]
        ]
        operators = len(self.tidings.pods())
        return all(bundle.count(b"BEGIN CERTIFICATE") >= operators for bundle in bundles)

    def install_pizza(self, *more: str) -> str:
        """Install or upgrade the pizzeria; what Helm says."""
        numbered = f"{REPOSITORY}/numbered:{TAG}"
        value = [f"image.repository={REPOSITORY}", f"image.tag={TAG}"]
        value += [f"image.overrides.{name}={numbered}" for name in ("sender", "receiver")]
        value += [f"{server}.image={image}" for server, image in SERVER_IMAGES.items()]
        return self._install(self.apps, "pizza", *value, more=("--values", str(HERE / "values.yaml"), *more))

    def _install(self, cluster: Cluster, chart: str, *provided: str, more: tuple[str, ...]) -> str:
        words = [chart, str(ROOT / "charts" / chart), *(word for item in provided for word in ("--set", item)), *more]
        install = ("upgrade", "--install", "--create-namespace")
        # Rendered by the cluster: the charts ask it for Dapr's API.
        check_images(cluster.context, cluster.helm(*install, "--dry-run=server", *words))
        return cluster.helm(*install, *words)

    def uninstall(self) -> None:
        """Take away what an earlier run has left, or this one."""
        for cluster, release in ((self.apps, "pizza"), (self.tidings, "tidings")):
            cluster.helm("uninstall", release, "--wait", "--ignore-not-found")

    def clean(self) -> None:
        """Uninstall the charts and delete the namespace."""
        self.uninstall()
        self.apps.kubectl("delete", "namespace", self.apps.namespace, "--ignore-not-found", "--timeout=300s")


def installed_on(named: str, namespace: str) -> Installed:
    """Return what is, or will be, installed on a context for the apps of a namespace."""
    context = chosen(named, current_context()) if named == CURRENT else named
    return Installed(Cluster(context, SYSTEM), Cluster(context, namespace))


@pytest.fixture(scope="session")
def installed() -> Iterator[Installed]:
    """Yield both charts, freshly installed and ready."""
    result = installed_on(CONTEXT, PIZZA)
    if not KEEP:
        result.clean()
    result.install_tidings()
    result.install_pizza()
    result.apps.kubectl("apply", "-f", str(NUMBERED / "sender/contracts/events.yaml"))
    result.apps.roll_out()
    yield result
    if not KEEP:
        result.clean()


class Guest:
    """Orders at the storefront, and follows what becomes of it."""

    def __init__(self, cluster: Cluster) -> None:
        self.cluster = cluster

    def order(self, *, deliver: bool = True, patience: float = 60.0) -> str:
        """Place an order, with retries while the API does not answer; return its id."""
        body = {
            "customer": {"name": "Ada", "email": "ada@example.org"},
            "fulfilment": "delivery" if deliver else "pickup",
            "address": {"street": "Analytical Row 1", "city": "London", "postcode": "N1"} if deliver else None,
            "lines": [{"sku": "margherita", "quantity": 1}],
            "paymentToken": "tok_ok",
        }
        headers = {"Idempotency-Key": secrets.token_hex(8)}
        answer = until("an order is taken", lambda: self._ask("POST", "/api/orders", body, headers), patience)
        return str(answer["orderId"])

    def stage(self, order: str) -> str:
        """Return the order's stage on the page."""
        result = self._ask("GET", f"/api/track/{order}")
        return str(result["stage"]) if result else ""

    def has_points(self, order: str) -> bool:
        """Return True once loyalty has added points for the order."""
        entries = (self._ask("GET", f"/api/track/{order}") or {}).get("timeline", ())
        return any(entry["type"] == "loyalty.pointsAdded" for entry in entries)

    def eaten(self, *orders: str, patience: float = 180.0) -> None:
        """Wait until all are completed."""
        waiting = set(orders)
        end = time.monotonic() + patience
        while waiting:
            waiting = {order for order in waiting if self.stage(order) != "completed"}
            assert time.monotonic() < end, f"not delivered: { {order: self.stage(order) for order in waiting} }"
            time.sleep(0.5)

    def _ask(
        self, method: str, path: str, body: Any = None, headers: dict[str, str] | None = None
    ) -> dict[str, Any] | None:
        with self.cluster.http() as http:
            answer = http.request(method, self.cluster.url("storefront") + path, json=body, headers=headers)
        assert answer.status_code < 400 or answer.status_code >= 500 or answer.status_code == 404, answer.text
        result: dict[str, Any] | None = answer.json() if answer.is_success else None
        return result


@pytest.fixture
def guest(installed: Installed) -> Guest:
    return Guest(installed.apps)
