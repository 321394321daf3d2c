"""Attacks on the operator's ports: without a NetworkPolicy, any pod may connect to the webhooks."""

from __future__ import annotations

import asyncio
import json
import re
import ssl
import time
import zlib
from collections.abc import AsyncIterator
from datetime import date
from typing import Any

import aiohttp
import pytest
import pytest_asyncio

from tidings_operator import certificates, server, webhooks
from tidings_operator.cache import Cache
from tidings_operator.client import MUTATING_WEBHOOKS, VALIDATING_WEBHOOKS, ApiError
from tidings_operator.judging import Judge
from tidings_operator.webhook_paths import GRACE, Paths, renewed
from tidings_operator.webhooks import Webhooks

PATIENCE = 60.0
ENVELOPE = {"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview"}
REQUEST: dict[str, Any] = {"uid": "1", "kind": {"kind": "EventType"}, "operation": "CREATE", "namespace": "x"}


@pytest_asyncio.fixture
async def port(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[int]:
    """Yield the webhooks as they are served, without TLS and with nothing known."""
    monkeypatch.setattr(server, "HEAD_DEADLINE", 1.0)
    monkeypatch.setattr(webhooks, "BODY_DEADLINE", 1.0)
    nothing: Any = None
    plain = certificates.MountedCertificates("", "")
    made = Webhooks(Cache(lambda _: None), nothing, plain, Judge(), namespaces=(), unready=lambda: "")
    runner, port = await server.serve(made.application(), "127.0.0.1", 0)
    yield port
    await runner.cleanup()


async def sent(port: int, *parts: bytes) -> bytes:
    """Send bytes as they are, and answer what comes back until the server closes."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        async with asyncio.timeout(PATIENCE):
            for part in parts:
                writer.write(part)
                await writer.drain()
            return await reader.read()
    except ConnectionError:
        return b""
    finally:
        writer.close()


async def post(port: int, path: str, body: bytes, **headers: str) -> tuple[int, str]:
    url = f"http://127.0.0.1:{port}/{path}"
    async with aiohttp.ClientSession() as session, session.post(url, data=body, headers=headers) as answer:
        return answer.status, await answer.text()


@pytest.mark.parametrize("encoding", ["gzip", "deflate", "br", "gzip, gzip"])
@pytest.mark.parametrize("path", ["validate", "default"])
async def test_a_compressed_review_is_not_unpacked(
    port: int, path: str, encoding: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A bomb of 300 kB took 220 MB at once: a few of them end an operator, and it looks after everybody."""
    unpacked: list[int] = []
    genuine = zlib.decompressobj

    def counted(*how: Any, **more: Any) -> Any:
        unpacked.append(1)
        return genuine(*how, **more)

    monkeypatch.setattr(zlib, "decompressobj", counted)
    status, _ = await post(port, path, zlib.compress(b"\0" * 1_000_000), **{"Content-Encoding": encoding})
    assert status == 415
    assert unpacked == []


async def test_a_connection_on_which_nothing_is_asked_is_closed(port: int) -> None:
    assert await sent(port) == b""
    assert await sent(port, b"POST /validate HTTP/1.1\r\nHost: x\r\n") == b""


async def test_an_endless_review_is_cut_off(port: int) -> None:
    head = b"POST /validate HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: 1000\r\n\r\n{"
    assert b" 408 " in await sent(port, head)


async def test_who_sends_slowly_keeps_no_other_from_an_answer_for_long(port: int) -> None:
    head = b"POST /validate HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: 1000\r\n\r\n{"
    slow = [asyncio.create_task(sent(port, head)) for _ in range(4 * webhooks.AT_ONCE)]
    await asyncio.sleep(0.2)
    review = json.dumps({**ENVELOPE, "request": {**REQUEST, "operation": "DELETE"}}).encode()
    async with asyncio.timeout(PATIENCE):
        status, _ = await post(port, "validate", review)
    assert status == 200
    await asyncio.gather(*slow)


ODD: list[Any] = [
    None,
    [],
    {},
    "x",
    {"spec": [1]},
    {"spec": "x", "metadata": {"name": 5}},
    {"metadata": None},
    {"metadata": [], "spec": None},
    {"metadata": {"name": "x", "creationTimestamp": []}, "spec": {}},
    {"metadata": {"annotations": [1], "deletionTimestamp": 1}, "spec": {"type": 5}},
    {"metadata": {"name": "\x00", "generateName": 5}, "kind": [], "apiVersion": {}},
]


@pytest.mark.parametrize("body", ODD, ids=str)
@pytest.mark.parametrize("path", ["validate", "default"])
async def test_every_request_gets_a_response(port: int, path: str, body: Any) -> None:
    """The API server asks before it holds an object against its schema: a `spec` may be anything."""
    for kind, operation in (
        ("EventType", "CREATE"),
        ("EventType", "DELETE"),
        ("EventReplay", "UPDATE"),
        ("", "CREATE"),
    ):
        request = {**REQUEST, "kind": {"kind": kind}, "operation": operation, "object": body, "oldObject": body}
        status, text = await post(port, path, json.dumps({**ENVELOPE, "request": request}).encode())
        assert status in (200, 400), text
        if status == 200:
            assert json.loads(text)["response"]["uid"] == "1"


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"\xff",
        b'{"apiVersion":"\xff","request":{"uid":"\xff","kind":{"kind":"\xff"}}}',
        b"null",
        b'{"request":',
        b'{"a":' * 100_000,
        b'{"request":{"object":' + b"[" * 100_000,
    ],
)
async def test_what_is_no_review_is_refused(port: int, body: bytes) -> None:
    for path in ("validate", "default"):
        status, message = await post(port, path, body)
        assert status == 400
        assert "AdmissionReview" in message


class Configurations:
    """The API server's two webhook configurations, as the manifest has them."""

    def __init__(self) -> None:
        service = {"name": "tidings-operator-webhooks", "namespace": "tidings-system"}
        self.kept: dict[str, Any] = {
            api.plural: {
                "kind": api.kind,
                "metadata": {"name": "tidings", "resourceVersion": "1"},
                "webhooks": [{"name": f"{name}.tidings.dev", "clientConfig": {"service": {**service}}}],
            }
            for api, name in ((VALIDATING_WEBHOOKS, "validate"), (MUTATING_WEBHOOKS, "default"))
        }
        self.reads = 0
        self.is_away = False

    async def get(self, api: Any, _namespace: str, _name: str) -> Any:
        self.reads += 1
        if self.is_away:
            raise ApiError(0, "it is away")
        return json.loads(json.dumps(self.kept[api.plural]))

    async def request(self, _method: str, path: str, patch: Any, **_: Any) -> Any:
        result = next(kept for plural, kept in self.kept.items() if plural in path)
        for supplied in patch["webhooks"]:
            (known,) = result["webhooks"]
            known["clientConfig"] |= {"caBundle": supplied["clientConfig"].get("caBundle", "")}
            known["clientConfig"]["service"] |= supplied["clientConfig"].get("service", {})
        return json.loads(json.dumps(result))

    def paths(self) -> list[str]:
        named: list[Any] = [kept["webhooks"] for kept in self.kept.values()]
        return [webhooks[0]["clientConfig"]["service"].get("path", "") for webhooks in named]


async def begun(server_: Configurations, identity: str = "one") -> certificates.OwnCertificates:
    client: Any = server_
    made = certificates.OwnCertificates(client, "tidings", identity)
    await made.begin(ssl.create_default_context(ssl.Purpose.CLIENT_AUTH))
    return made


async def test_only_who_knows_the_path_is_answered_and_before_its_body_is_read() -> None:
    """Any pod can connect; the path is in the configurations, which cluster administrators only can read."""
    configurations = Configurations()
    own = await begun(configurations)
    client: Any = None
    made = Webhooks(Cache(lambda _: None), client, own, Judge(), namespaces=(), unready=lambda: "")
    runner, port = await server.serve(made.application(), "127.0.0.1", 0)
    validate, default = configurations.paths()
    assert re.fullmatch(r"/validate/\d{8}-[0-9a-f]{48}", validate), "each part of a path must be a DNS name"
    assert validate.rpartition("/")[2] != default.rpartition("/")[2]
    review = json.dumps({**ENVELOPE, "request": {**REQUEST, "operation": "DELETE"}}).encode()
    try:
        for path in (validate, default, f"{validate}?timeout=10s"):
            assert (await post(port, path[1:], review))[0] == 200
        refused = (
            "validate",
            "default",
            "validate/",
            "/" + validate,
            validate[1:-1],
            validate[1:] + "0",
            validate[1:] + "/",
            validate[1:].upper(),
            "validate/" + default.rpartition("/")[2],
            "default/%2e%2e%2f" + validate[1:],
            "x/" + validate[1:],
            "validate/%00",
            "validate/\xff",
            "",
        )
        for path in refused:
            assert (await post(port, path, review))[0] in (404, 405), path
        head = b"POST /validate HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: 1000000\r\n\r\n"
        assert b" 404 " in await sent(port, head)
        reads = configurations.reads
        for _ in range(50):
            await post(port, "validate/guess", review)
        assert configurations.reads - reads <= 50, "guesses are no flood of requests to the API server"
    finally:
        await runner.cleanup()


async def test_guesses_make_the_operator_ask_the_api_server_at_most_once_a_second() -> None:
    configurations = Configurations()
    own = await begun(configurations)
    reads, begun_at = configurations.reads, time.monotonic()
    assert not any(await asyncio.gather(*(own.admits(f"/validate/{n}") for n in range(500))))
    looks = (configurations.reads - reads) / 2
    assert looks <= 1 + (time.monotonic() - begun_at) / certificates.REFRESH
    configurations.is_away = True
    own._refreshed = 0.0
    assert not await own.admits("/validate/x")
    assert await own.admits(configurations.paths()[0]), "what is known is answered without the API server"


async def test_every_start_replaces_the_path_and_other_operators_learn_of_it() -> None:
    configurations = Configurations()
    one = await begun(configurations)
    first = configurations.paths()
    two = await begun(configurations, "two")
    second = configurations.paths()
    assert not {*first} & {*second}
    for own in (one, two):
        for path in (*first, *second):  # the first is answered until every API server has seen the second
            assert await own.admits(path)
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    await two.look(context)
    assert configurations.paths() == second, "nothing is written without need"


def test_a_replaced_path_is_refused_soon() -> None:
    now = [0.0]
    paths = Paths(lambda: now[0])

    def configuration(path: str) -> Any:
        return {"webhooks": [{"clientConfig": {"service": {"path": path}}}]}

    paths.observe([configuration("/validate/a")])
    paths.observe([configuration("/validate/b")])
    now[0] = GRACE - 1
    assert paths.admits("/validate/a")
    now[0] = GRACE
    assert not paths.admits("/validate/a")
    assert paths.admits("/validate/b")
    assert not paths.admits("")
    paths.observe([configuration("")])
    assert not paths.admits("")


@pytest.mark.parametrize(
    ("client", "changes"),
    [
        ({"service": {"name": "x"}}, True),
        ({"service": {"path": "/validate/20260101-abc"}}, True),
        ({"service": {"path": "/validate/20260102-abc"}}, False),
        ({"service": {"path": "/validate"}}, False),
        ({"url": "https://x/"}, False),
        ({"url": "https://x/validate"}, False),
    ],
    ids=str,
)
def test_a_configured_path_stays(client: dict[str, Any], changes: bool) -> None:
    made = renewed("ValidatingWebhookConfiguration", client, date(2026, 1, 2), is_new=False)
    assert bool(made) is changes
    assert made != renewed("ValidatingWebhookConfiguration", client, date(2026, 1, 2), is_new=True) or not made


async def test_the_health_port_is_bounded_in_the_same_way(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server, "HEAD_DEADLINE", 1.0)
    runner, port = await server.serve(server.application(lambda: "", lambda: ""), "127.0.0.1", 0)
    try:
        assert await sent(port, b"GET /healthz HTTP/1.1\r\n") == b""
        async with aiohttp.ClientSession() as session, session.get(f"http://127.0.0.1:{port}/healthz") as answer:
            assert answer.status == 200
    finally:
        await runner.cleanup()
