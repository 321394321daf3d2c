"""The operator as a process: what it logs, what it measures, how it ends."""

from __future__ import annotations

import asyncio
import json
import os
import re
import signal
import sys

import httpx2
import pytest
from tests.operator import shop
from tests.operator.cluster import OPERATOR, Cluster
from tests.operator.conftest import until

from tidings_cli.testing.programs import Ports
from tidings_operator.settings import SettingsError, read

pytestmark = pytest.mark.real


async def test_it_logs_lines_of_json_and_measures_what_is_so(cluster: Cluster, namespace: str, ports: Ports):
    cluster.apply(shop.event_type(namespace))
    good = cluster.apply(shop.subscription(namespace))
    bad = cluster.apply(shop.subscription(namespace, "bad", consumer={"appId": "bad"}, versions=["v9"]))
    port = ports.take()
    environment = {
        **os.environ,
        "KUBECONFIG": str(cluster.kubeconfig(OPERATOR)),
        "TIDINGS_OPERATOR_NAMESPACES": namespace,
        "TIDINGS_OPERATOR_HOST": "127.0.0.1",
        "TIDINGS_OPERATOR_PORT": str(port),
        "TIDINGS_OPERATOR_LEASE": "false",
        "TIDINGS_OPERATOR_OBSERVE": "0",
    }
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "tidings_operator", env=environment, stderr=asyncio.subprocess.PIPE
    )
    await until(lambda: shop.conditions(cluster, good) and shop.conditions(cluster, bad), "both have a status", 60)
    cluster.delete(f"/apis/dapr.io/v1alpha1/namespaces/{namespace}/resiliencies/kitchen")
    await until(lambda: "kitchen" in shop.resiliencies(cluster, namespace), "drift is repaired", 60)
    with httpx2.Client(base_url=f"http://127.0.0.1:{port}", timeout=60) as http:
        assert http.get("/readyz").status_code == http.get("/healthz").status_code == 200

        def measured() -> dict[str, float]:
            found = re.findall(r"^tidings_operator_(\w+) (\S+)$", http.get("/metrics").text, re.MULTILINE)
            return {name: float(value) for name, value in found}

        so = {"declared_subscriptions": 2.0, "ready_subscriptions": 1.0, "synced": 1.0}
        await until(lambda: so.items() <= measured().items(), "its metrics show what is so")
        assert 0 <= measured()["watch_age_seconds"] < 60

    process.send_signal(signal.SIGTERM)
    _, published = await asyncio.wait_for(process.communicate(), 60)
    assert process.returncode == 0
    lines = [json.loads(line) for line in published.decode().splitlines()]
    assert {(line["service"], "timestamp" in line, "event" in line) for line in lines} == {
        ("tidings-operator", True, True)
    }
    warned = [line for line in lines if line["level"] == "warning"]
    assert {(item["kind"], item["namespace"], item["name"]) for item in warned} == {("app", namespace, "kitchen")}


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("LOG", "xml", "write json or console"),
        ("LOG_LEVEL", "LOUD", "write DEBUG or INFO or WARNING or ERROR"),
        ("WORKERS", "many", "not a number"),
        ("LEASE", "1", "write true or false"),
        ("COLOUR", "red", "is unknown"),
    ],
)
def test_a_setting_that_cannot_be_used_is_named(name: str, value: str, message: str):
    with pytest.raises(SettingsError, match=f"TIDINGS_OPERATOR_{name}.*{message}"):
        read({f"TIDINGS_OPERATOR_{name}": value})
