"""Attacks on the operator's ports: any pod may connect to the webhooks where nobody has configured a NetworkPolicy."""

from __future__ import annotations

import asyncio
import json
import zlib
from collections.abc import AsyncIterator
from typing import Any

import aiohttp
import pytest
import pytest_asyncio

from tidings_operator import server, webhooks
from tidings_operator.cache import Cache
from tidings_operator.judging import Judge
from tidings_operator.webhooks import Webhooks

PATIENCE = 60.0
ENVELOPE = {"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview"}
REQUEST: dict[str, Any] = {"uid": "1", "kind": {"kind": "EventType"}, "operation": "CREATE", "namespace": "x"}


@pytest_asyncio.fixture
async def port(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[int]:
    """The webhooks as they are served, without TLS and with nothing known."""
    monkeypatch.setattr(server, "HEAD_DEADLINE", 1.0)
    monkeypatch.setattr(webhooks, "BODY_DEADLINE", 1.0)
    nothing: Any = None
    made = Webhooks(Cache(lambda _: None), nothing, nothing, Judge(), namespaces=(), unready=lambda: "")
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


async def test_a_review_that_never_ends_is_given_up(port: int) -> None:
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
async def test_whatever_is_asked_is_answered(port: int, path: str, body: Any) -> None:
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
    "body", [b"", b"\xff", b"null", b'{"request":', b'{"a":' * 100_000, b'{"request":{"object":' + b"[" * 100_000]
)
async def test_what_is_no_review_is_refused(port: int, body: bytes) -> None:
    for path in ("validate", "default"):
        status, said = await post(port, path, body)
        assert status == 400
        assert "AdmissionReview" in said


async def test_the_health_port_is_bounded_in_the_same_way(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server, "HEAD_DEADLINE", 1.0)
    runner, port = await server.serve(server.application(lambda: "", lambda: ""), "127.0.0.1", 0)
    try:
        assert await sent(port, b"GET /healthz HTTP/1.1\r\n") == b""
        async with aiohttp.ClientSession() as session, session.get(f"http://127.0.0.1:{port}/healthz") as answer:
            assert answer.status == 200
    finally:
        await runner.cleanup()
