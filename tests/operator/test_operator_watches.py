"""Watches that fall silent or change their form under a running operator: nothing is lost, and silence is detected."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from functools import partial
from http import HTTPStatus
from typing import Any

import httpx2
import kopf
import pytest
import pytest_asyncio
from tests.operator import shop
from tests.operator.cluster import Cluster, path_of
from tests.operator.conftest import Start, until
from tests.support.proxy import FaultProxy

from tidings_cli.testing.programs import Ports
from tidings_operator import client, crds, feeding, operating, watching

pytestmark = pytest.mark.real
NEVER = 10_000.0


class ForgetfulProxy(FaultProxy):
    """A firewall that can forget its connections: nothing passes on them any more; new ones work."""

    def __init__(self, port: int, target: int) -> None:
        super().__init__(port, target)
        self._known = asyncio.Event()
        self._known.set()

    def forget(self) -> None:
        self._known.clear()
        self._known = asyncio.Event()
        self._known.set()

    async def _pass_on(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        known = self._known
        while data := await reader.read(65_536):
            await known.wait()
            await self._open.wait()
            writer.write(data)
            await writer.drain()


@pytest_asyncio.fixture
async def proxy(cluster: Cluster, ports: Ports) -> AsyncIterator[ForgetfulProxy]:
    async with ForgetfulProxy(ports.take(), cluster.port) as started:
        yield started


def is_ready(cluster: Cluster, manifest: dict[str, Any]) -> bool:
    return bool(shop.conditions(cluster, manifest).get("Ready", {}).get("status") == "True")


def short(monkeypatch: pytest.MonkeyPatch, *, inactivity: float) -> None:
    """Let an operator notice within seconds what it notices within a minute or two."""
    genuine = feeding.settings

    def settings() -> kopf.OperatorSettings:
        made = genuine()
        made.watching.inactivity_timeout = inactivity
        return made

    monkeypatch.setattr(feeding, "settings", settings)
    monkeypatch.setattr(client, "TIMEOUT", 2.0)
    monkeypatch.setattr(watching, "SECONDS", 2)
    monkeypatch.setattr(operating, "HEARTBEAT", 0.5)


@pytest.mark.parametrize(
    ("inactivity", "resync"),
    [(3.0, NEVER), (NEVER, 1.0)],
    ids=["kopf watches again", "the resync reads what the watch kept to itself"],
)
async def test_a_watch_that_stalls_loses_nothing(
    cluster: Cluster,
    namespace: str,
    operator: Start,
    proxy: ForgetfulProxy,
    monkeypatch: pytest.MonkeyPatch,
    inactivity: float,
    resync: float,
):
    short(monkeypatch, inactivity=inactivity)
    cluster.apply(shop.event_type(namespace))
    first = cluster.apply(shop.subscription(namespace))
    made = await operator(server=f"https://127.0.0.1:{proxy.port}", resync=resync)
    await until(lambda: is_ready(cluster, first), "the first is ready", 60)

    proxy.forget()
    second = cluster.apply(shop.subscription(namespace, "second", consumer={"appId": "pickup"}))
    cluster.delete(f"/apis/dapr.io/v1alpha1/namespaces/{namespace}/resiliencies/kitchen")
    await until(lambda: is_ready(cluster, second), "what no watch told of is programmed", 60)
    await until(lambda: "kitchen" in shop.resiliencies(cluster, namespace), "a child's watch begins anew, too", 60)
    assert not made.dead()


async def test_an_operator_that_hears_nothing_calls_itself_dead(
    cluster: Cluster, namespace: str, operator: Start, proxy: ForgetfulProxy, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(watching, "SECONDS", 1)
    monkeypatch.setattr(client, "TIMEOUT", 1.0)
    monkeypatch.setattr(operating, "HEARTBEAT", 0.5)
    made = await operator(server=f"https://127.0.0.1:{proxy.port}", stale=4.0, resync=NEVER)
    assert not made.dead()
    async with proxy.failing("silent"):
        await until(made.dead, "it says that it is of no use", 60)
        assert made.watch_age() > 5
    await until(lambda: not made.dead(), "it hears again", 60)


def taken(request: Callable[[], Any]) -> Any:
    """Make a request; None while the API server prepares the kind again (429), for which kubectl waits, too."""
    try:
        return request()
    except httpx2.HTTPStatusError as error:
        if error.response.status_code == HTTPStatus.TOO_MANY_REQUESTS:
            return None
        raise


@pytest.fixture
def upgradable(cluster: Cluster) -> Iterator[None]:
    """Restore the kinds when the test has ended."""
    yield
    for definition in crds.definitions():
        cluster.apply(definition)
    cluster._until("the kinds are served again", cluster._serves_all)


async def test_a_crd_may_be_upgraded_under_it(cluster: Cluster, namespace: str, operator: Start, upgradable: None):
    cluster.apply(shop.event_type(namespace))
    first = cluster.apply(shop.subscription(namespace))
    made = await operator()
    await until(lambda: is_ready(cluster, first), "the first is ready", 60)

    for definition in crds.definitions():
        (version,) = definition["spec"]["versions"]
        version["schema"]["openAPIV3Schema"]["properties"]["spec"]["properties"]["colour"] = {"type": "string"}
        definition["spec"]["versions"] = [version, {**version, "name": "v1beta1", "storage": False}]
        cluster.apply(definition)
    served = f"/apis/tidings.dev/v1beta1/namespaces/{namespace}/eventsubscriptions"
    await until(lambda: taken(lambda: cluster.get(served)), "the new version is served", 60)

    manifest = shop.subscription(namespace, "later", consumer={"appId": "pickup"})
    later = await until(lambda: taken(lambda: cluster.apply(manifest)), "the API server takes it", 60)
    await until(lambda: is_ready(cluster, later), "what comes after it is programmed", 60)
    await until(lambda: taken(lambda: cluster.patch(path_of(first), {"spec": {"suspend": True}})), "it is taken", 60)
    await until(
        lambda: shop.conditions(cluster, first).get("Ready", {}).get("reason") == "Suspended", "a change is seen", 60
    )
    cluster.delete(f"/apis/dapr.io/v1alpha1/namespaces/{namespace}/resiliencies/pickup")
    await until(lambda: "pickup" in shop.resiliencies(cluster, namespace), "drift is repaired", 60)
    assert not made.dead()


async def test_annotations_of_another_kopf_operator_stay_and_block_nothing(
    cluster: Cluster, namespace: str, operator: Start, caplog: pytest.LogCaptureFixture
):
    marker = kopf.OperatorSettings().persistence.finalizer
    cluster.apply(shop.event_type(namespace))
    manifest = shop.subscription(namespace)
    manifest["metadata"]["finalizers"] = [marker]
    cluster.apply(manifest)
    await operator()

    async def published(generation: int) -> None:
        await until(
            lambda: shop.status(cluster, manifest).get("observedGeneration") == generation,
            f"change {generation} is told of",
        )

    for limit in (3, 4, 5):
        await published(cluster.patch(path_of(manifest), {"spec": {"maxConcurrency": limit}})["metadata"]["generation"])
    assert is_ready(cluster, manifest)
    assert cluster.get(path_of(manifest))["metadata"]["finalizers"] == [marker]
    assert not [record for record in caplog.records if record.name.startswith("kopf") and record.levelno >= 30]
    cluster.patch(path_of(manifest), {"metadata": {"finalizers": None}})


BOOKMARKS = {
    "old": b'{"type":"BOOKMARK","object":{"metadata":{"resourceVersion":"1"}}}',
    "without a version": b'{"type":"BOOKMARK","object":{"metadata":{}}}',
    "without metadata": b'{"type":"BOOKMARK","object":{"kind":"ConfigMap"}}',
    "with null as metadata": b'{"type":"BOOKMARK","object":{"metadata":null}}',
    "without an object": b'{"type":"BOOKMARK"}',
    "with no version": b'{"type":"BOOKMARK","object":{"metadata":{"resourceVersion":"soon"}}}',
    "with a number": b'{"type":"BOOKMARK","object":{"metadata":{"resourceVersion":7}}}',
    "with a list": b'{"type":"BOOKMARK","object":{"metadata":{"resourceVersion":["7"]}}}',
    "that is null": b"null",
    "that is half": b'{"type":"BOOKMARK","object":{"metadata":{"res',
}


@pytest.mark.parametrize("bookmark", BOOKMARKS.values(), ids=BOOKMARKS)
async def test_a_bookmark_that_leads_nowhere_ends_no_watch(
    cluster: Cluster, namespace: str, operator: Start, monkeypatch: pytest.MonkeyPatch, bookmark: bytes
) -> None:
    """Each watch, kopf's and ours, gets one after each event, and restarts every second."""
    genuine, given = client.lines, 0

    async def with_bookmarks(content: Any) -> AsyncIterator[bytes]:
        nonlocal given
        yield bookmark
        async for line in genuine(content):
            given += 1
            yield line
            yield bookmark

    short(monkeypatch, inactivity=NEVER)
    monkeypatch.setattr(watching, "SECONDS", 1)
    monkeypatch.setattr(client, "lines", with_bookmarks)
    monkeypatch.setattr(feeding, "lines", with_bookmarks)
    configured = feeding.settings

    def settings() -> kopf.OperatorSettings:
        made = configured()
        made.watching.server_timeout = 1
        return made

    monkeypatch.setattr(feeding, "settings", settings)
    cluster.apply(shop.event_type(namespace))
    first = cluster.apply(shop.subscription(namespace))
    made = await operator(resync=NEVER)
    await until(lambda: is_ready(cluster, first), "the first is ready", 60)
    for name in ("second", "third"):
        before = given
        manifest = cluster.apply(shop.subscription(namespace, name, consumer={"appId": name}))
        cluster.delete(f"/apis/dapr.io/v1alpha1/namespaces/{namespace}/resiliencies/kitchen")
        await until(partial(is_ready, cluster, manifest), f"the {name} is programmed", 60)
        await until(lambda: "kitchen" in shop.resiliencies(cluster, namespace), "a child is made again", 60)
        assert given > before
    assert not made.dead()


async def test_hours_of_bookmarks_alone_are_signs_of_life_and_lead_on() -> None:
    """An idle cluster: the watch after them begins at the last one, and nothing is listed again."""
    asked: list[str] = []
    signs: list[float] = []
    ended = asyncio.Event()

    class Idle:
        async def pages(self, *_: Any, **__: Any) -> AsyncIterator[tuple[list[Any], str]]:
            asked.append("list")
            yield [], "100"

        async def watch(self, *_: Any, version: str, **__: Any) -> AsyncIterator[dict[str, Any]]:
            asked.append(version)
            if len(asked) > 180:  # three hours
                ended.set()
                await asyncio.sleep(NEVER)
            yield {"type": "BOOKMARK", "object": {"metadata": {"resourceVersion": str(int(version) + 1)}}}

    class Nothing:
        def listed(self, *_: Any) -> None:
            assert not signs

        def changed(self, *what: Any) -> None:
            raise AssertionError(what)

    api = client.CHILDREN["Resiliency"]
    idle: Any = Idle()
    task = asyncio.create_task(watching.watch(idle, api, "", "", Nothing(), signs.append))
    await asyncio.wait_for(ended.wait(), 60)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    assert asked == ["list", *(str(100 + number) for number in range(180))]
    assert len(signs) == 1 + 2 * 179
