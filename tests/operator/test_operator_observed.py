"""Observed: what a real sidecar says it is subscribed to, behind a pod that is only an object."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tests.operator import shop
from tests.operator.cluster import Cluster, path_of
from tests.operator.conftest import Start, until

from tidings.testing.asgi import App
from tidings_cli.testing.fixtures import Serve, StartDaprd, daprd, serve
from tidings_cli.testing.programs import Daprd
from tidings_operator import metrics, observing

__all__ = ["daprd", "serve"]
pytestmark = pytest.mark.real
PUBSUB: dict[str, Any] = {
    "apiVersion": "dapr.io/v1alpha1",
    "kind": "Component",
    "metadata": {"name": "pubsub"},
    "spec": {"type": "pubsub.in-memory", "version": "v1", "metadata": []},
}
TOPIC = "orders.orderConfirmed.v1"
UNDECLARED: dict[str, Any] = {
    "apiVersion": "dapr.io/v2alpha1",
    "kind": "Subscription",
    "metadata": {"name": "by-hand"},
    "spec": {"pubsubname": "pubsub", "topic": "orders.somethingElse", "routes": {"default": "/else"}},
}


async def answers(scope: Any, receive: Any, send: Any) -> None:
    """Answer every request of a sidecar like an app without subscriptions of its own."""
    if scope["type"] != "http":
        return
    body = b"[]" if scope["path"] == "/dapr/subscribe" else b"{}"
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-type", b"application/json")]})
    await send({"type": "http.response.body", "body": body})


def pod(cluster: Cluster, namespace: str, name: str = "kitchen-1", **how: Any) -> dict[str, Any]:
    """Return a pod as the injector and the kubelet leave it, with this machine as its address."""
    made = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {
            "name": name,
            "namespace": namespace,
            "labels": {observing.INJECTED: "true", "dapr.io/app-id": "kitchen"},
            "annotations": {"dapr.io/enabled": "true", "dapr.io/app-id": "kitchen"},
            **how,
        },
        "spec": {"containers": [{"name": "app", "image": "none"}]},
    }
    cluster.apply(made)
    ready = {"type": "Ready", "status": "True", "lastTransitionTime": "2026-01-01T00:00:00Z"}
    status = {"phase": "Running", "podIP": "127.0.0.1", "podIPs": [{"ip": "127.0.0.1"}], "conditions": [ready]}
    cluster.patch(f"{path_of(made)}/status", {"status": status})
    return made


@pytest.fixture
def manifest(cluster: Cluster, namespace: str) -> dict[str, Any]:
    """Return a subscription of the kitchen, and its type."""
    cluster.apply(shop.event_type(namespace))
    applied: dict[str, Any] = cluster.apply(shop.subscription(namespace))
    return applied


@pytest.fixture
def observed(cluster: Cluster, manifest: dict[str, Any]) -> Callable[[str], Any]:
    """Wait for a reason of Observed; gives the condition."""

    async def wait(reason: str) -> dict[str, Any]:
        def existing() -> dict[str, Any] | None:
            result = shop.conditions(cluster, manifest).get("Observed")
            return result if result and result["reason"] == reason else None

        return dict(await until(existing, f"Observed says {reason}"))

    return wait


async def sidecar(start: StartDaprd, serve: Serve, cluster: Cluster, namespace: str, *more: Any, **how: Any) -> Daprd:
    """Return a sidecar of the kitchen with what the operator has made for it."""
    made = [
        {"apiVersion": item["apiVersion"], "kind": item["kind"], "metadata": {"name": item["metadata"]["name"]},
         "spec": item["spec"], "scopes": item["scopes"]}
        for result in (shop.dapr_subscriptions(cluster, namespace), shop.resiliencies(cluster, namespace))
        for item in result.values()
    ]  # fmt: skip
    app: App = answers
    served = await serve(app)
    return await start("kitchen", resources=[PUBSUB, *made, *more], app_port=served.port, **how)


async def test_what_a_sidecar_has_is_observed(
    cluster: Cluster, namespace: str, operator: Start, daprd: StartDaprd, serve: Serve, manifest: Any, observed: Any
) -> None:
    first = await operator()
    await until(lambda: shop.conditions(cluster, manifest).get("Ready", {}).get("status") == "True", "it is programmed")
    running = await sidecar(daprd, serve, cluster, namespace)
    assert shop.conditions(cluster, manifest)["Observed"]["reason"] == "NotAsked"
    how = {"observe": 1.0, "sidecar_port": running.http_port}
    made = await operator(**how)
    assert (await observed("NoSidecar"))["status"] == "Unknown"
    pod(cluster, namespace)
    assert (await observed("Subscribed"))["status"] == "True"
    assert metrics.OBSERVED._value.get() == 1

    # A restart says again what was seen, and does not write it anew.
    first.reconciler._may_write = lambda: False
    await until(lambda: made.queue.idle, "all is done")
    before = shop.versions(cluster, namespace)
    await operator(**how)
    await asyncio.sleep(1.5)
    assert shop.versions(cluster, namespace) == before

    await running.stop()
    unreachable = await observed("Unreachable")
    assert unreachable["status"] == "Unknown"
    assert "kitchen-1" in unreachable["message"]
    assert "dapr.io/sidecar-listen-addresses" in unreachable["message"]
    assert shop.conditions(cluster, manifest)["Ready"]["status"] == "True", "what is programmed does not hang on it"


async def test_declared_but_not_subscribed_and_the_other_way_round(
    cluster: Cluster, namespace: str, operator: Start, daprd: StartDaprd, serve: Serve, manifest: Any, observed: Any
) -> None:
    await operator()
    await until(lambda: shop.conditions(cluster, manifest).get("Ready", {}).get("status") == "True", "it is programmed")
    running = await sidecar(daprd, serve, cluster, namespace, UNDECLARED)
    pod(cluster, namespace)
    made = await operator(observe=1.0, sidecar_port=running.http_port)
    assert "orders.somethingElse" in (await observed("MoreThanDeclared"))["message"]

    # The sidecar is not told of what is declared now: its files are those of before.
    paid = cluster.apply(shop.event_type(namespace, "orders.orderPaid"))
    other = cluster.apply(shop.subscription(namespace, "paid", type="orders.orderPaid"))
    await until(lambda: _reason(cluster, other) == "NotSubscribed", "the new one is missed")
    output = shop.conditions(cluster, other)["Observed"]
    assert output["status"] == "False"
    assert "orders.orderPaid.v1" in output["message"]
    assert _reason(cluster, manifest) == "MoreThanDeclared", "the app's others stay as they were"
    assert paid
    assert made.cache.apps[namespace, "kitchen"].observation


async def test_a_sidecar_with_a_token_is_asked_with_it(
    cluster: Cluster, namespace: str, operator: Start, daprd: StartDaprd, serve: Serve, manifest: Any, observed: Any,
    tmp_path: Path,
) -> None:  # fmt: skip
    await operator()
    await until(lambda: shop.conditions(cluster, manifest).get("Ready", {}).get("status") == "True", "it is programmed")
    running = await sidecar(daprd, serve, cluster, namespace, environment={"DAPR_API_TOKEN": "secret"})
    pod(cluster, namespace)
    first = await operator(observe=1.0, sidecar_port=running.http_port)
    assert "TIDINGS_OPERATOR_SIDECAR_TOKENS" in (await observed("Unreachable"))["message"]
    first.reconciler._may_write = lambda: False
    (tmp_path / namespace).write_text("secret\n")
    await operator(observe=1.0, sidecar_port=running.http_port, sidecar_tokens=str(tmp_path))
    await observed("Subscribed")


async def test_a_sidecar_that_hangs_holds_up_no_one(
    cluster: Cluster, namespace: str, operator: Start, daprd: StartDaprd, serve: Serve, manifest: Any, observed: Any,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.setattr(observing, "TIMEOUT", 1.0)
    await operator()
    await until(lambda: shop.conditions(cluster, manifest).get("Ready", {}).get("status") == "True", "it is programmed")
    running = await sidecar(daprd, serve, cluster, namespace)
    for number in range(20):
        pod(cluster, namespace, f"kitchen-{number}")
    await running.suspend()
    first = await operator(observe=0.5, sidecar_port=running.http_port)
    assert (await observed("Unreachable"))["status"] == "Unknown"
    first.reconciler._may_write = lambda: False
    monkeypatch.setattr(observing, "TIMEOUT", 600.0)  # the next one's questions hang for as long as the sidecar does
    await operator(observe=0.5, sidecar_port=running.http_port)
    late = cluster.apply(shop.subscription(namespace, "late", consumer={"appId": "late"}))
    await until(lambda: shop.conditions(cluster, late).get("Ready", {}).get("status") == "True", "work goes on")
    running.resume()
    await observed("Subscribed")


def pretender(status: int, headers: list[tuple[bytes, bytes]], body: bytes, asked: list[dict[bytes, bytes]]) -> App:
    """Return a tenant's pod that carries a sidecar's label, and writes down how it was asked."""

    async def answer(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] != "http":
            return
        asked.append({**dict(scope["headers"]), b":path": scope["path"].encode()})
        await send({"type": "http.response.start", "status": status, "headers": headers})
        try:
            for _ in range(64):
                await send({"type": "http.response.body", "body": body, "more_body": True})
            await send({"type": "http.response.body", "body": b""})
        except OSError:
            return  # whoever asked has read enough

    return answer


@pytest.mark.parametrize(
    ("status", "body", "message"),
    [(302, b"", "answers 302"), (200, b"x" * 65_536, "more than"), (200, b"[" * 4_096, "is no sidecar")],
    ids=["it leads elsewhere", "it answers without end", "it answers with nonsense"],
)
async def test_who_pretends_to_be_a_sidecar_gets_no_other_namespaces_token(
    cluster: Cluster, namespace: str, operator: Start, serve: Serve, manifest: Any, observed: Any, tmp_path: Path,
    status: int, body: bytes, message: str,
) -> None:  # fmt: skip
    asked: list[dict[bytes, bytes]] = []
    elsewhere: list[dict[bytes, bytes]] = []
    other = await serve(pretender(200, [], b"{}", elsewhere))
    leads = [(b"location", f"http://127.0.0.1:{other.port}/v1.0/metadata".encode()), (b"set-cookie", b"a=b")]
    served = await serve(pretender(status, leads, body, asked))
    (tmp_path / namespace).write_text("its own")
    (tmp_path / "payments").write_text("another's")
    pod(cluster, namespace)
    await operator(observe=0.5, sidecar_port=served.port, sidecar_tokens=str(tmp_path))
    assert message in (await observed("Unreachable"))["message"]
    await until(lambda: len(asked) > 1, "it is asked again")
    assert {item[b"dapr-api-token"] for item in asked} == {b"its own"}
    assert not [item for item in asked if b"cookie" in item]
    assert not elsewhere


def _reason(cluster: Cluster, resource: dict[str, Any]) -> str:
    return str(shop.conditions(cluster, resource).get("Observed", {}).get("reason", ""))
