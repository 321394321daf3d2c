"""Faults around the operator: it converges, and faulty objects do not delay valid ones."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
from tests.operator import shop
from tests.operator.cluster import OPERATOR, Cluster, path_of
from tests.operator.conftest import Start, until

from tidings_operator.client import OWN, ApiError, Client, Known
from tidings_operator.lease import Lease

pytestmark = pytest.mark.real


def is_ready(cluster: Cluster, manifest: dict[str, Any]) -> Callable[[], bool]:
    return lambda: shop.conditions(cluster, manifest).get("Ready", {}).get("status") == "True"


@pytest.mark.parametrize("status", [0, 409, 429, 500, 503])
async def test_failing_writes_are_tried_again(
    cluster: Cluster, namespace: str, operator: Start, monkeypatch: pytest.MonkeyPatch, status: int
):
    genuine, refused = Client.request, [0]

    async def request(self: Client, method: str, path: str, *rest: Any, **how: Any) -> Any:
        if method != "GET" and refused[0] < 6:
            refused[0] += 1
            raise ApiError(status, "played", retry_after=0.1 if status == 429 else 0.0)
        return await genuine(self, method, path, *rest, **how)

    monkeypatch.setattr(Client, "request", request)
    cluster.apply(shop.event_type(namespace))
    manifest = cluster.apply(shop.subscription(namespace))
    await operator()
    await until(is_ready(cluster, manifest), "it is programmed after all")
    assert refused == [6]
    assert len(shop.dapr_subscriptions(cluster, namespace)) == 2


async def test_while_writes_fail_the_status_does_not_claim_otherwise(
    cluster: Cluster, namespace: str, operator: Start, monkeypatch: pytest.MonkeyPatch
):
    genuine = Client.apply
    is_broken = [True]

    async def apply(self: Client, manifest: Any) -> Any:
        if is_broken[0] and manifest["kind"] == "Resiliency":
            raise ApiError(500, "played")
        return await genuine(self, manifest)

    monkeypatch.setattr(Client, "apply", apply)
    cluster.apply(shop.event_type(namespace))
    manifest = cluster.apply(shop.subscription(namespace))
    await operator()
    await until(lambda: shop.conditions(cluster, manifest), "it speaks, after some attempts")
    conditions = shop.conditions(cluster, manifest)
    assert (conditions["Ready"]["status"], conditions["Ready"]["reason"]) == ("False", "ApiServerFails")
    assert (conditions["Reconciling"]["status"], conditions["Stalled"]["status"]) == ("True", "False")
    is_broken[0] = False
    await until(is_ready(cluster, manifest), "it recovers")


async def test_the_api_server_may_be_restarted(cluster: Cluster, namespace: str, operator: Start):
    cluster.apply(shop.event_type(namespace))
    first = cluster.apply(shop.subscription(namespace))
    made = await operator()
    await until(is_ready(cluster, first), "it is ready")
    cluster.stop_api()
    await asyncio.sleep(1.0)
    await asyncio.to_thread(cluster.start_api)
    second = cluster.apply(shop.subscription(namespace, "second", consumer={"appId": "pickup"}))
    await until(is_ready(cluster, second), "what came later is seen", 60)
    cluster.delete(f"/apis/dapr.io/v1alpha1/namespaces/{namespace}/resiliencies/kitchen")
    await until(lambda: "kitchen" in shop.resiliencies(cluster, namespace), "the children are watched again", 60)
    assert not made.dead()


async def test_bad_ones_do_not_delay_good_ones(cluster: Cluster, namespace: str, operator: Start):
    cluster.apply(shop.event_type(namespace))
    good = [shop.subscription(namespace, f"good-{n}", consumer={"appId": f"app{n}"}) for n in range(30)]
    bad = [
        shop.subscription(namespace, f"bad-{n}", consumer={"appId": f"app{n}"}, filters=[{"cel": "event.data.total >"}])
        for n in range(10)
    ]
    for item in (*bad, *good):
        cluster.apply(item)
    await operator()
    for item in good:
        await until(is_ready(cluster, item), f"{item['metadata']['name']} is ready", 60)
    for item in bad:
        await until(partial(shop.conditions, cluster, item), "the bad ones are told")
        assert shop.conditions(cluster, item)["Ready"]["reason"] == "MalformedCel"
    scopes = {
        dapr_subscription["scopes"][0] for dapr_subscription in shop.dapr_subscriptions(cluster, namespace).values()
    }
    assert scopes == {f"app{n}" for n in range(30)}


async def test_of_two_operators_one_writes_and_the_other_takes_over(cluster: Cluster, namespace: str, operator: Start):
    how = {"lease": True, "lease_duration": 6.0}  # seconds: shorter, and a busy machine loses it
    cluster.apply(shop.event_type(namespace))
    manifest = cluster.apply(shop.subscription(namespace))
    first = await operator(identity="a", **how)
    await until(is_ready(cluster, manifest), "one writes")
    second = await operator(identity="b", **how)
    await asyncio.sleep(1.0)
    assert (first.lease.held, second.lease.held) == (True, False)

    assert isinstance(first.lease, Lease)
    first.lease._client = Client(lambda: pytest.fail("it has no connection any more"))  # cut off, not stopped
    first.lease._try = _unreachable  # type: ignore[method-assign]
    await until(lambda: second.lease.held, "the other takes over")
    assert not first.lease.held
    later = cluster.apply(shop.subscription(namespace, "later", consumer={"appId": "pickup"}))
    await until(is_ready(cluster, later), "and writes")


async def _unreachable() -> bool:
    raise ApiError(0, "cut off")


async def test_killed_in_the_middle_of_its_writes_the_next_one_ends_them(cluster: Cluster, namespace: str):
    cluster.apply(shop.event_type(namespace))
    manifests = [shop.subscription(namespace, f"wish-{n}", consumer={"appId": f"app{n}"}) for n in range(60)]
    for entry in manifests:
        cluster.apply(entry)
    environment = {
        **os.environ,
        "KUBECONFIG": str(cluster.kubeconfig(OPERATOR)),
        "TIDINGS_OPERATOR_NAMESPACES": namespace,
        "TIDINGS_OPERATOR_HOST": "127.0.0.1",
        "TIDINGS_OPERATOR_PORT": "0",
        "TIDINGS_OPERATOR_LEASE": "false",
        "TIDINGS_OPERATOR_OBSERVE": "0",
    }

    async def start() -> asyncio.subprocess.Process:
        return await asyncio.create_subprocess_exec(
            sys.executable, "-m", "tidings_operator", env=environment, stderr=asyncio.subprocess.DEVNULL
        )

    process = await start()
    await until(lambda: len(shop.dapr_subscriptions(cluster, namespace)) > 5, "it is in the middle", 60)
    process.kill()
    await process.wait()
    assert not all(is_ready(cluster, item)() for item in manifests)
    process = await start()
    for entry in manifests:
        await until(is_ready(cluster, entry), f"{entry['metadata']['name']} is ready", 60)
    assert len(shop.resiliencies(cluster, namespace)) == 60
    process.send_signal(signal.SIGTERM)
    assert await asyncio.wait_for(process.wait(), 60) == 0


@pytest.mark.parametrize(
    ("change", "is_written"),
    [
        pytest.param({}, True, id="as it was known"),
        pytest.param({"metadata": {"labels": {"a": "b"}}}, True, id="a label is no reason not to write"),
        pytest.param({"spec": {"maxConcurrency": 7}}, False, id="another spec is"),
        pytest.param(None, False, id="another object of that name is"),
    ],
)
async def test_a_status_is_of_the_object_that_was_looked_at(
    cluster: Cluster, namespace: str, client: Client, change: dict[str, Any] | None, is_written: bool
):
    manifest = cluster.apply(shop.subscription(namespace))
    metadata = manifest["metadata"]
    known = Known(
        namespace, metadata["name"], metadata["uid"], metadata["generation"], int(metadata["resourceVersion"])
    )
    if change is None:
        cluster.delete(path_of(manifest))
        cluster.apply(shop.subscription(namespace))
    elif change:
        cluster.patch(path_of(manifest), change)
    answer = await client.write_status(OWN["EventSubscription"], known, {"topics": ["a"], "observedGeneration": 1})
    assert (answer is not None) is is_written
    existing = cluster.get(path_of(manifest))
    assert existing.get("status", {}).get("topics") == (["a"] if is_written else None)
    assert existing["spec"].get("maxConcurrency") == (7 if change and "spec" in change else None), (
        "only the status is put"
    )
    assert existing["metadata"].get("labels") == ({"a": "b"} if change and "metadata" in change else None)
