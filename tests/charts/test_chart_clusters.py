"""Both charts on clusters of other kinds, and installed in other ways than by `helm install` of this version."""

from __future__ import annotations

import asyncio
import json
import re
import shutil
import socket
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import httpx2
import pytest
import uvicorn
import yaml
from charts.rendered import APIS, CHARTS, KUBERNETES, render
from tests.support.charts import VALUE_SETS, Resource, documents, of_kind, pods, rendered

from tidings.fastapi import create_app
from tidings.settings import Settings
from tidings_cli.programs import ensure
from tidings_cli.testing.programs import Ports

IPV4 = "0.0.0.0"  # noqa: S104 - it is looked for
BOTH = pytest.mark.parametrize("chart", ["tidings", "pizza"])
SWITCHED_ON: Mapping[str, Mapping[str, Any]] = {
    "tidings": {"archive": {"namespaces": ["shop", "pizza"]}},
    "pizza": {"postgres": {"enabled": True}, "dapr": {"observable": True}},
}


def template(folder: Path, *arguments: str) -> tuple[Resource, ...]:
    """Render a chart of a test's own, in another process than the cached one."""
    helm = str(ensure("helm")["helm"])
    apis = [word for api in APIS for word in ("--api-versions", api)]
    command = [helm, "template", "outer", str(folder), "--namespace", "outer", "--kube-version", KUBERNETES]
    done = subprocess.run([*command, *apis, *arguments], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return documents(done.stdout)


def without_random(resources: tuple[Resource, ...]) -> list[str]:
    """Return resources as texts that can be compared: without generated passwords."""
    kept = [item for item in resources if item["kind"] != "Secret"]
    return sorted(json.dumps(item, sort_keys=True) for item in kept)


# --- OpenShift ---


@BOTH
def test_openshift_chooses_users_and_groups(chart: str) -> None:
    """Its default constraint refuses a pod that names a user or group outside of the range of its namespace."""
    values = [f"--set-json={key}={json.dumps(value)}" for key, value in SWITCHED_ON[chart].items()]
    done = render(chart, "--api-versions", "security.openshift.io/v1", *values)
    assert done.returncode == 0, done.stderr
    templates = list(pods(documents(done.stdout)))
    assert {name for name, _ in templates} >= (
        {"archive"} if chart == "tidings" else {"menu", "nats", "redis", "postgres", "saas"}
    )
    for name, pod in templates:
        spec = pod["spec"]
        containers = (*spec["containers"], *spec.get("initContainers", ()))
        contexts = [spec["securityContext"], *(container["securityContext"] for container in containers)]
        chosen = {key for context in contexts for key in context} & {"runAsUser", "runAsGroup", "fsGroup"}
        assert not chosen, f"{name} names {chosen}"
        assert spec["securityContext"]["runAsNonRoot"] is True, name


# --- IPv6 only ---


@BOTH
def test_nothing_listens_at_ipv4_addresses_only(chart: str) -> None:
    """Go programs given 0.0.0.0 listen on all addresses, others on those of IPv4."""
    in_go = ("dapr.io/sidecar-listen-addresses", "listen: ", "http: ")
    for values in (SWITCHED_ON[chart], {"broker": {"kind": "redis"}} if chart == "pizza" else {}):
        text = yaml.safe_dump_all(rendered(chart, values), width=10_000, default_style=None)
        lines = [line.strip() for line in text.replace("\\n", "\n").splitlines() if IPV4 in line]
        assert [line for line in lines if not any(name in line for name in in_go)] == []


@pytest.mark.parametrize("image", sorted((CHARTS.parent / "images").glob("*.Dockerfile")), ids=lambda path: path.stem)
def test_no_image_listens_at_ipv4_addresses_only(image: Path) -> None:
    text = image.read_text()
    assert IPV4 not in text
    for command in re.findall(r"^CMD (\[.*\])$", text, re.MULTILINE):
        if {"uvicorn", "saas.py"} & set(json.loads(command)):
            assert json.loads(command)[json.loads(command).index("--host") + 1] == ""


@pytest.mark.skipif(not socket.has_dualstack_ipv6(), reason="NOT TESTED, no IPv6 here")
async def test_a_service_answers_at_addresses_of_ipv4_and_ipv6() -> None:
    """As the images and charts start it: --host with an empty text, and metrics at an empty address."""
    async with AsyncExitStack() as stack:
        ports = stack.enter_context(Ports())
        port, observed = ports.take(), ports.take()
        settings = Settings(tidings_metrics_host="", tidings_metrics_port=observed)
        server = uvicorn.Server(uvicorn.Config(create_app("shop", settings=settings), "", port, log_config=None))
        serving = asyncio.create_task(server.serve())
        stack.push_async_callback(asyncio.wait, [serving])
        stack.callback(setattr, server, "should_exit", True)
        client = await stack.enter_async_context(httpx2.AsyncClient(trust_env=False, timeout=60))
        async with asyncio.timeout(60):
            while not server.started:  # noqa: ASYNC110 - nobody signals it
                await asyncio.sleep(0.01)
        for host in ("127.0.0.1", "[::1]"):
            assert (await client.get(f"http://{host}:{port}/healthz")).status_code == 200, host
            assert "python_info" in (await client.get(f"http://{host}:{observed}/metrics")).text, host


# --- other versions, other values ---


@BOTH
def test_a_version_may_have_build_metadata(chart: str, tmp_path: Path) -> None:
    shutil.copytree(CHARTS / chart, tmp_path / chart)
    file = tmp_path / chart / "Chart.yaml"
    file.write_text(re.sub(r'ersion: "?0\.1\.0"?', f"ersion: 0.1.0-rc.1+{'build' * 12}", file.read_text()))
    resources = template(tmp_path / chart)
    for resource in resources:
        labelled = [resource, *([resource["spec"]["template"]] if "template" in resource.get("spec", {}) else [])]
        for value in (value for entry in labelled for value in entry["metadata"].get("labels", {}).values()):
            assert len(value) <= 63, value
            assert re.fullmatch(r"[A-Za-z0-9]([A-Za-z0-9._-]*[A-Za-z0-9])?", value), value
    images = [
        container["image"]
        for _, pod in pods(resources)
        for container in (*pod["spec"]["containers"], *pod["spec"].get("initContainers", ()))
    ]
    assert [image for image in images if "+" in image or len(image.rpartition(":")[2]) > 128] == []


PLACES = {
    "operator": ("tidings", ("environment",), "tidings-operator-settings"),
    "archive": ("tidings", ("archive", "environment"), "archive-settings"),
    "a service": ("pizza", ("services", "menu", "environment"), "menu-settings"),
    "all services": ("pizza", ("defaults", "environment"), "tracking-settings"),
}


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("how", ["--values", "--set"])
def test_numbers_are_written_as_in_the_values(place: str, how: str, tmp_path: Path) -> None:
    chart, path, name = PLACES[place]
    numbers = {"A": 1_000_000, "B": 123_456_789_012, "C": 0.25, "D": True, "E": "x", "F": 1e-05, "G": 0, "H": -2e9}
    values: Any = numbers
    for key in reversed(path):
        values = {key: values}
    (tmp_path / "values.yaml").write_text(yaml.safe_dump(values))
    texts = {key: str(value).lower() if isinstance(value, bool) else str(value) for key, value in numbers.items()}
    texts |= {"F": "0.00001", "H": "-2000000000"}
    settings = [f"--set={'.'.join((*path, key))}={texts[key]}" for key in numbers]
    resources = template(
        CHARTS / chart, *(["--values", str(tmp_path / "values.yaml")] if how == "--values" else settings)
    )
    data = of_kind(resources, "ConfigMap")[name]["data"]
    assert {key: float(data[key]) if key == "F" else data[key] for key in numbers} == {**texts, "F": 1e-05}


@pytest.mark.parametrize("name", ["keda", "keda-redis", "keda-rabbitmq", "keda-kafka"])
def test_a_large_lag_is_a_whole_number(name: str) -> None:
    values = VALUE_SETS[name]
    scaling = {**values, "autoscaling": {**values["autoscaling"], "targetLag": 5_000_000}}
    triggers = of_kind(rendered("pizza", scaling), "ScaledObject")["kitchen"]["spec"]["triggers"]
    assert {item for trigger in triggers for item in trigger["metadata"].values() if "000000" in item} == {"5000000"}


def paths(values: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    """Yield the paths of all values that a chart may gain; keys that are the user's own are not among them."""
    for key, value in values.items():
        yield (*path, key)
        if isinstance(value, dict) and key not in ("services", "resources", "sidecarResources", "dashboardLabels"):
            yield from paths(value, (*path, key))


@pytest.mark.parametrize("depth", [1, 2, 3])
@BOTH
def test_values_of_an_earlier_chart_are_enough(chart: str, depth: int, tmp_path: Path) -> None:
    """After `helm upgrade --reuse-values`, what the earlier chart did not have is missing, not at its default."""
    defaults = yaml.safe_load((CHARTS / chart / "values.yaml").read_text())
    missing: dict[str, Any] = {}
    for path in paths(defaults):
        if len(path) == depth:
            place = missing
            for key in path[:-1]:
                place = place.setdefault(key, {})
            place[path[-1]] = None
    file = tmp_path / "values.yaml"
    file.write_text(yaml.safe_dump(missing))
    without = template(CHARTS / chart, "--values", str(file))
    assert without_random(without) == without_random(template(CHARTS / chart))


def test_what_a_user_has_switched_off_or_removed_stays_so() -> None:
    values = {
        "services": {"kitchen": {"environment": {"KITCHEN_AUTOPILOT": None}}, "loyalty": {"enabled": False}},
        "nats": {"streams": {"enabled": False}, "volume": {"keep": True}},
        "podDisruptionBudget": {"enabled": False},
        "networkPolicies": {"metricsFrom": []},
        "defaults": {"replicas": 0, "resources": {"requests": {"cpu": "10m"}, "limits": None}},
    }
    resources = rendered("pizza", values)
    assert "KITCHEN_AUTOPILOT" not in of_kind(resources, "ConfigMap")["kitchen-settings"]["data"]
    assert "loyalty" not in of_kind(resources, "Deployment")
    assert (
        of_kind(resources, "StatefulSet")["nats"]["spec"]["persistentVolumeClaimRetentionPolicy"]["whenDeleted"]
        == "Retain"
    )
    menu = of_kind(resources, "Deployment")["menu"]["spec"]
    assert menu["replicas"] == 0
    assert menu["template"]["spec"]["containers"][0]["resources"] == {"requests": {"cpu": "10m", "memory": "96Mi"}}
    environment = of_kind(resources, "Deployment")["topology"]["spec"]["template"]["spec"]["containers"][0]["env"]
    assert "NATS_URL" not in {item["name"] for item in environment}
    assert 9091 not in [
        port["port"]
        for rule in of_kind(resources, "NetworkPolicy")["menu"]["spec"].get("ingress") or ()
        for port in rule["ports"]
    ]


# --- part of another chart ---


@pytest.fixture
def umbrella(tmp_path: Path) -> Path:
    """Return a chart that has both as dependencies, one of them under another name."""
    folder = tmp_path / "umbrella"
    for chart in ("tidings", "pizza"):
        shutil.copytree(CHARTS / chart, folder / "charts" / chart)
    dependencies = [
        {"name": "tidings", "version": "0.1.0", "condition": "tidings.enabled"},
        {"name": "pizza", "version": "0.1.0", "alias": "shop", "condition": "shop.enabled", "tags": ["demo"]},
    ]
    outer = {"apiVersion": "v2", "name": "umbrella", "version": "1.0.0", "dependencies": dependencies}
    (folder / "Chart.yaml").write_text(yaml.safe_dump(outer))
    return folder


def test_an_umbrella_chart_may_hold_both_and_give_global_values(umbrella: Path) -> None:
    values = {
        "global": {"imageRegistry": "example.org", "storageClass": "fast", "compatibility": {"openshift": {}}},
        "tidings": {"enabled": True, "replicas": 3, "namespaces": ["outer"]},
        "shop": {"enabled": True, "services": {"loyalty": {"enabled": False}}},
    }
    (umbrella / "values.yaml").write_text(yaml.safe_dump(values))
    deployments = of_kind(template(umbrella), "Deployment")
    assert deployments["tidings-operator"]["spec"]["replicas"] == 3
    assert "menu" in deployments
    assert "loyalty" not in deployments
    pairs = [
        (item["kind"], item["metadata"].get("namespace", ""), item["metadata"]["name"]) for item in template(umbrella)
    ]
    assert len(pairs) == len(set(pairs)), "the two share no name"


@pytest.mark.parametrize(("off", "left"), [("tidings", "menu"), ("shop", "tidings-operator")])
def test_an_umbrella_chart_may_switch_one_off(umbrella: Path, off: str, left: str) -> None:
    on = {"tidings": "shop", "shop": "tidings"}[off]
    deployments = of_kind(template(umbrella, f"--set={off}.enabled=false,{on}.enabled=true"), "Deployment")
    assert left in deployments
    assert len(deployments) == (2 if left == "tidings-operator" else 13)
