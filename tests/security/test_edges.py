"""Attacks on the edges that every service has from `create_app`: written as an attacker would send them."""

from __future__ import annotations

import asyncio
import gzip
import re
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx2
import pytest
import uvicorn
from fastapi import APIRouter
from fastapi.responses import StreamingResponse
from pydantic import BaseModel

from tidings import Service
from tidings.fastapi import EventApp, StreamPlace, create_app
from tidings.settings import Settings
from tidings.testing import MemorySidecar
from tidings.web import guard, protocol
from tidings_cli.testing.programs import Ports
from tidings_cli.testing.serving import Served
from tidings_cli.up.processes import UVICORN

PATIENCE = 60.0
TOKEN = "t0ken"
ROOT = Path(__file__).parents[2]


class Note(BaseModel):
    text: str


def _router() -> APIRouter:
    router = APIRouter()

    @router.get("/notes")
    async def read() -> dict[str, str]:
        return {"text": "hello"}

    @router.post("/notes")
    async def write(note: Note) -> dict[str, int]:
        return {"length": len(note.text)}

    @router.get("/stream", dependencies=[StreamPlace])
    async def stream() -> StreamingResponse:
        async def body() -> AsyncIterator[bytes]:
            yield b"data: first\n\n"
            await asyncio.sleep(PATIENCE)

        return StreamingResponse(body(), media_type="text/event-stream")

    @router.get("/flood")
    async def flood() -> StreamingResponse:
        async def body() -> AsyncIterator[bytes]:
            while True:
                yield b"x" * 65536
                await asyncio.sleep(0)

        return StreamingResponse(body())

    return router


def _app(**chosen: Any) -> EventApp:
    settings = Settings(**({"app_api_token": TOKEN} | chosen))
    return create_app(Service("shop", sidecar=MemorySidecar("shop"), settings=settings), [_router()])


@asynccontextmanager
async def _asking(**chosen: Any) -> AsyncIterator[httpx2.AsyncClient]:
    transport = httpx2.ASGITransport(_app(**chosen))
    async with httpx2.AsyncClient(transport=transport, base_url="http://127.0.0.1:8001") as client:
        yield client


@asynccontextmanager
async def _serving(**chosen: Any) -> AsyncIterator[Served]:
    with Ports() as ports:
        served = Served(_app(**chosen), ports.take())
        await served.start()
        try:
            yield served
        finally:
            await served.stop()


async def _raw(served: Served, *parts: bytes, pause: float = 0.0) -> bytes:
    """Send bytes as they are, and answer all that comes back until the server closes."""
    reader, writer = await asyncio.open_connection("127.0.0.1", served.port)
    try:
        async with asyncio.timeout(PATIENCE):
            for part in parts:
                writer.write(part)
                await writer.drain()
                await asyncio.sleep(pause)
            return await reader.read()
    except ConnectionError:
        return b""
    finally:
        writer.close()


# -- who asks ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "host",
    [
        "evil.example",
        "evil.example:8001",
        "shop.evil.example",
        "127.0.0.1.nip.io",
        "localhost.evil.example",
        "",
        "evil@127.0.0.1",
        "127.0.0.1#.evil.example",
        "127.0.0.1/.evil.example",
        "localhost?.evil.example",
        "0177.0.0.1",
        "2130706433",
        "[::1].evil.example",
        "[::1]evil.example",
        "[evil.example]",
        "[::1",
        "]",
        "127.0.0.1:8001:evil.example",
        "localhost:evil.example",
        "localhost:8001.evil.example",
        ".localhost",
        "evil.example.",
    ],
)
async def test_a_rebound_domain_name_reaches_nothing(host: str) -> None:
    async with _asking() as client:
        for path in ("/notes", "/healthz", "/openapi.json", "/docs"):
            answer = await client.get(path, headers={"Host": host})
            assert answer.status_code == 421, path
            assert "hello" not in answer.text
        delivery = await client.post("/events/x", headers={"Host": host, "dapr-api-token": TOKEN}, content=b"{}")
        assert delivery.status_code == 421


@pytest.mark.parametrize(
    "host",
    ["127.0.0.1:8001", "localhost", "LOCALHOST:1", "[::1]:8001", "10.1.2.3", "shop", "shop.pizza.svc", "a.b.org"],
)
async def test_its_own_names_are_served(host: str) -> None:
    async with _asking(tidings_hosts="shop.pizza.svc, *.b.org") as client:
        assert (await client.get("/notes", headers={"Host": host})).status_code == 200


@pytest.mark.parametrize(
    "headers",
    [
        {"Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Site": "same-site"},
        {"Origin": "http://evil.example"},
        {"Origin": "http://127.0.0.1:9999"},
        {"Origin": "null"},
        {"Origin": ""},
        {"Origin": "127.0.0.1:8001"},
        {"Origin": "http://127.0.0.1:8001.evil.example"},
        {"Origin": "http://127.0.0.1:8001@evil.example"},
        {"Origin": "http://[evil.example"},
        {"Origin": "http://127.0.0.1:8001, http://evil.example"},
        {"Sec-Fetch-Site": ""},
        {"Sec-Fetch-Site": "Same-Origin"},
        {"Sec-Fetch-Site": "same-origin, cross-site"},
        {"Sec-Fetch-Site": "cross-site", "X-HTTP-Method-Override": "GET"},
        {"Origin": "http://evil.example", "Sec-Fetch-Site": "cross-site"},
    ],
)
async def test_another_site_cannot_make_a_browser_change_something(headers: Mapping[str, str]) -> None:
    async with _asking() as client:
        for method, path in (
            ("POST", "/notes"), ("POST", "/events/x"), ("DELETE", "/notes"), ("PUT", "/nothing"), ("TRACE", "/notes"),
        ):  # fmt: skip
            answer = await client.request(method, path, headers=headers, content=b'{"text": ""}')
            assert answer.status_code == 403, (method, path)


async def test_a_forged_delivery_is_refused_before_its_body_is_read() -> None:
    async def endless() -> AsyncIterator[bytes]:
        yield b"{"
        raise AssertionError("the body was read")

    async with _asking() as client:
        for token in (None, b"guess", b"", b"t0ke", b"T0KEN", b"t0ken\0", "tökén".encode(), b"\xff\xfe"):
            headers = [] if token is None else [(b"dapr-api-token", token)]
            answer = await client.post("/events/x", content=endless(), headers=headers)
            assert answer.status_code == 401, token


async def test_who_lacks_the_token_is_not_asked_for_the_body() -> None:
    """A client that asks first (Expect: 100-continue) would otherwise send it all."""
    head = "POST {} HTTP/1.1\r\nHost: {}\r\nExpect: 100-continue\r\nContent-Length: 100000\r\nConnection: close\r\n\r\n"
    async with _serving() as served:
        for path, host, status in (
            ("/events/x", "localhost", b"401"),
            ("/%65vents/x", "localhost", b"401"),
            ("/notes", "evil.example", b"421"),
        ):
            answer = await _raw(served, head.format(path, host).encode())
            assert answer.startswith(b"HTTP/1.1 " + status), answer


async def test_no_header_makes_a_read_of_a_change_or_the_other_way_round() -> None:
    async with _asking() as client:
        for name in ("X-HTTP-Method-Override", "X-HTTP-Method", "X-Method-Override"):
            answer = await client.get("/notes?_method=POST", headers={name: "POST", "Sec-Fetch-Site": "cross-site"})
            assert answer.json() == {"text": "hello"}


async def test_a_target_with_a_host_of_its_own_changes_nothing() -> None:
    """A proxy that forwards the whole address does not open a service for that host."""
    async with _serving() as served:
        for host, status in (("evil.example", b"421"), ("localhost", b"200")):
            head = f"GET http://localhost/notes HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n"
            assert (await _raw(served, head.encode())).startswith(b"HTTP/1.1 " + status)
        assert (await _raw(served, b"GET /notes HTTP/1.0\r\n\r\n")).startswith(b"HTTP/1.1 421")


# -- how much, and how long -------------------------------------------------------------------------------------------


async def test_a_body_beyond_the_limit_is_refused_announced_or_not() -> None:
    large = b'{"text": "' + b"x" * guard.MAX_BODY + b'"}'
    async with _asking() as client:
        assert (await client.post("/notes", content=large)).status_code == 413
        announced = {"Content-Length": "9" * 30}
        assert (await client.post("/notes", content=b"{}", headers=announced)).status_code == 413

    head = b"POST /notes HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n"
    async with _serving() as served:
        answer = await _raw(served, head, *[b"10000\r\n" + b" " * 0x10000 + b"\r\n"] * 64)
        assert answer == b"" or answer.startswith(b"HTTP/1.1 413"), answer[:100]


@pytest.mark.parametrize("encoding", ["gzip", "deflate", "br", "gzip, gzip"])
async def test_a_compressed_body_is_not_unpacked(encoding: str) -> None:
    bomb = gzip.compress(b"0" * 10_000_000)
    async with _asking() as client:
        answer = await client.post("/notes", content=bomb, headers={"Content-Encoding": encoding})
        assert answer.status_code == 415


@pytest.mark.parametrize("path", ["/notes", "/events/x"])
async def test_an_endless_body_is_cut_off(monkeypatch: pytest.MonkeyPatch, path: str) -> None:
    monkeypatch.setattr(guard, "BODY_DEADLINE", 0.3)
    head = f"POST {path} HTTP/1.1\r\nHost: localhost\r\ndapr-api-token: {TOKEN}\r\nContent-Type: application/json\r\n"
    async with _serving() as served:
        for framing, start in (
            (b"Content-Length: 100\r\n\r\n", b"{"),
            (b"Transfer-Encoding: chunked\r\n\r\n", b"1\r\n{\r\n"),
        ):
            answer = await _raw(served, head.encode() + framing + start)
            assert answer.startswith(b"HTTP/1.1 408"), answer


@pytest.mark.parametrize(
    "header",
    [
        ("Host", "127.0.0.1:8001", "evil.example"),
        ("Host", "evil.example", "127.0.0.1:8001"),
        ("Origin", "http://evil.example", "http://127.0.0.1:8001"),
        ("Sec-Fetch-Site", "cross-site", "same-origin"),
        ("dapr-api-token", "wrong", TOKEN),
        ("Authorization", "Bearer a", "Bearer b"),
        ("Content-Encoding", "gzip", "identity"),
    ],
    ids=str,
)
async def test_a_decisive_header_occurs_only_one_time(header: tuple[str, str, str]) -> None:
    name, *values = header
    headers = "".join(f"{name}: {value}\r\n" for value in values)
    headers += "" if name == "Host" else "Host: 127.0.0.1:8001\r\n"
    text = "Connection: close\r\nContent-Type: application/json\r\nContent-Length: 14\r\n\r\n" + '{"text":"abc"}'
    async with _serving() as served:
        for path in ("/notes", "/events/x"):
            answer = await _raw(served, f"POST {path} HTTP/1.1\r\n{headers}{text}".encode())
            assert b" 400 " in answer, answer


SMUGGLED = {
    "two lengths": "Content-Length: 14\r\nContent-Length: 5",
    "a list of lengths": "Content-Length: 14, 14",
    "a signed length": "Content-Length: +14",
    "a negative length": "Content-Length: -1",
    "length and chunks": "Content-Length: 5\r\nTransfer-Encoding: chunked",
    "chunks and length": "Transfer-Encoding: chunked\r\nContent-Length: 5",
    "unknown coding": "Transfer-Encoding: xchunked",
    "two codings": "Transfer-Encoding: chunked\r\nTransfer-Encoding: identity",
    "a space before the colon": "Transfer-Encoding : chunked",
    "a folded line": "X-A: a\r\n b\r\nContent-Length: 14",
    "a return in a value": "X-A: a\rb\r\nContent-Length: 14",
    "NUL in a value": "X-A: a\0b\r\nContent-Length: 14",
    "a space in a name": "X A: a\r\nContent-Length: 14",
    "an underlined length": "Content-Length: 1_4",
    "a hexadecimal length": "Content-Length: 0xE",
    "a length in other digits": "Content-Length: \u0661\u0664",
    "a length with a fraction": "Content-Length: 14.0",
    "an empty length": "Content-Length:",
    "two equal codings": "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked",
    "a coding in quotes": 'Transfer-Encoding: "chunked"',
}
CHUNKS = ["0xe", "+e", "-1", "1_0", " e", "e ;", "\u0661", "", "e\r", "f" * 17, "e\n"]
"""Sizes of a chunk that are none: other readers take some of them for 14, some for 0."""


@pytest.mark.parametrize("name", [*SMUGGLED])
async def test_no_second_request_is_smuggled_behind_one(name: str) -> None:
    """What a proxy reads as one request must not be two here, or the other way round."""
    head = f"POST /notes HTTP/1.1\r\nHost: 127.0.0.1:8001\r\nContent-Type: application/json\r\n{SMUGGLED[name]}\r\n\r\n"
    async with _serving() as served:
        answer = await _raw(served, head.encode() + b'{"text":"abc"}')
    assert answer.startswith(b"HTTP/1.1 400 "), answer
    assert answer.count(b"HTTP/1.1 ") == 1


@pytest.mark.parametrize("size", CHUNKS)
async def test_a_chunk_has_a_size_that_all_read_alike(size: str) -> None:
    head = b"POST /notes HTTP/1.1\r\nHost: 127.0.0.1:8001\r\nContent-Type: application/json\r\n"
    head += b"Transfer-Encoding: chunked\r\n\r\n"
    async with _serving() as served:
        answer = await _raw(served, head, size.encode() + b'\r\n{"text":"abc"}\r\n0\r\n\r\n')
    assert b" 200 " not in answer, answer
    assert answer.count(b"HTTP/1.1 ") <= 1


@pytest.mark.parametrize("protocol_name", ["websocket", "h2c"])
async def test_no_other_protocol_is_spoken(protocol_name: str) -> None:
    for host, status in (("127.0.0.1:8001", b" 200 "), ("evil.example", b" 421 ")):
        head = f"GET /notes HTTP/1.1\r\nHost: {host}\r\nConnection: Upgrade\r\nUpgrade: {protocol_name}\r\n"
        head += "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
        async with _serving() as served:
            reader, writer = await asyncio.open_connection("127.0.0.1", served.port)
            writer.write(head.encode())
            async with asyncio.timeout(PATIENCE):
                answer = await reader.read(4096)
            writer.close()
        assert status in answer.partition(b"\r\n")[0]


@pytest.mark.parametrize("kind", ["trailers", "one trailer", "the extension of a chunk"])
async def test_chunk_extensions_and_trailers_are_bounded_too(kind: str) -> None:
    """36 MB of trailers took 129 MB of memory, and a faster sender has 30 s for it."""
    head = b"POST /notes HTTP/1.1\r\nHost: 127.0.0.1:8001\r\nContent-Type: application/json\r\n"
    head += b"Transfer-Encoding: chunked\r\n\r\n" + (b"1;" if "chunk" in kind else b"0\r\n")
    part = b"x-a: b\r\n" * 4_000 if kind == "trailers" else b"x" * 32_000
    async with _serving() as served:
        answer = await _raw(served, head, *[part] * 20, pause=0.01)
        assert answer == b"", "it is cut, long before the body is late"
        small = b"".join(b"1\r\n" + bytes([item]) + b"\r\n" for item in b'{"text": "' + b"x" * 40_000 + b'"}')
        whole = head.removesuffix(b"0\r\n") if kind == "trailers" else b""
        if whole:
            ended = b"0\r\nx-checksum: 1\r\n\r\n"
            whole = whole.replace(b"Host:", b"Connection: close\r\nHost:")
            assert b" 200 " in await _raw(served, whole, small, ended)


async def test_an_endless_head_is_cut_off(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(protocol, "HEAD_DEADLINE", 0.3)
    async with _serving() as served:
        assert await _raw(served) == b""
        assert await _raw(served, b"GET /notes HTTP/1.1\r\nHost: loc") == b""
        drops = [b"GET /notes HTTP/1.1\r\n", *(b"X-Slow: %d\r\n" % number for number in range(200))]
        assert b"200" not in await _raw(served, *drops, pause=0.05)
        first = b"GET /notes HTTP/1.1\r\nHost: localhost\r\n\r\n"
        answer = await _raw(served, first, b"GET /no", pause=0.05)  # a second one on the same connection
        assert answer.count(b"HTTP/1.1") == 1


@pytest.mark.parametrize(
    "head",
    [
        b"GET /notes HTTP/1.1\r\nHost: localhost\r\nX-Long: " + b"x" * 200_000,
        b"GET /notes HTTP/1.1\r\nHost: localhost\r\n" + b"X-Many: 1\r\n" * 20_000 + b"\r\n",
        b"GET /" + b"x" * 200_000 + b" HTTP/1.1\r\nHost: localhost\r\n\r\n",
        b"GET /notes HTTP/1.1\r\nHost: localhost\r\nX-Long: " + b"x" * 70_000 + b"\r\n\r\n",
    ],
    ids=["one without end", "many", "path", "just beyond"],
)
async def test_a_head_beyond_the_limit_is_refused(head: bytes) -> None:
    async with _serving() as served:
        answer = await _raw(served, *(head[at : at + 50_000] for at in range(0, len(head), 50_000)))
        assert answer == b"" or answer.startswith(b"HTTP/1.1 400"), answer[:100]


async def test_who_does_not_read_is_cut(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(protocol, "READ_DEADLINE", 0.3)
    async with _serving() as served:
        reader, writer = await asyncio.open_connection("127.0.0.1", served.port, limit=1024)
        writer.write(b"GET /flood HTTP/1.1\r\nHost: localhost\r\n\r\n")
        async with asyncio.timeout(PATIENCE):
            await reader.readexactly(1)
            while served.connections:  # noqa: ASYNC110 - nobody reads; the server lets go all the same
                await asyncio.sleep(0.05)
        writer.close()


async def test_streams_are_limited_by_address_and_in_total() -> None:
    chosen = {"tidings_streams": 3, "tidings_streams_per_address": 2}
    async with _serving(**chosen) as served, httpx2.AsyncClient(trust_env=False, timeout=PATIENCE) as client:
        url = f"{served.url}/stream"
        async with client.stream("GET", url) as first, client.stream("GET", url) as second:
            assert (first.status_code, second.status_code) == (200, 200)
            for claimed in ("", "192.0.2.1", "192.0.2.2, 127.0.0.1"):
                forged = {"X-Forwarded-For": claimed, "Forwarded": f"for={claimed}", "X-Real-IP": claimed}
                third = await client.get(url, headers=forged)
                assert (third.status_code, third.headers["retry-after"]) == (429, "5"), claimed
            assert (await client.get(f"{served.url}/notes")).status_code == 200
        async with asyncio.timeout(PATIENCE):
            while True:  # the places are free again once the server has seen that nobody watches
                async with client.stream("GET", url) as again:
                    if again.status_code == 200:
                        break
                await asyncio.sleep(0.05)


# -- what is answered -------------------------------------------------------------------------------------------------


async def test_every_answer_keeps_browsers_from_harm() -> None:
    async with _asking() as client:
        for path in ("/notes", "/nothing", "/openapi.json", "/healthz", "/docs"):
            headers = (await client.get(path)).headers
            assert headers["x-content-type-options"] == "nosniff", path
            assert headers["x-frame-options"] == "DENY"
            assert headers["referrer-policy"] == "no-referrer"
            assert "default-src 'none'" in headers["content-security-policy"]
            assert "frame-ancestors 'none'" in headers["content-security-policy"]


async def test_the_page_about_the_api_loads_nothing_from_elsewhere() -> None:
    async with _asking() as client:
        page = await client.get("/docs")
        assert "script-src 'self'" in page.headers["content-security-policy"]
        result = re.findall(r'(?:src|href)="([^"]+)"', page.text)
        assert len(result) == 4
        for address in result:
            assert address.startswith("/docs/"), address
            assert (await client.get(address)).status_code == 200
        assert "<script>" not in page.text
        assert (await client.get("/redoc")).status_code == 404


@pytest.mark.parametrize("up", ["..", "%2e%2e", "..%2f..", "%2e%2e%2f%2e%2e", "../..", "..%5c..", "%2fetc", "/etc"])
async def test_the_pages_files_are_all_that_is_read(up: str) -> None:
    async with _serving() as served:
        for file in ("passwd", "guard.py", "__init__.py"):
            head = f"GET /docs/assets/{up}/{file} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
            answer = await _raw(served, head.encode())
            assert answer.startswith(b"HTTP/1.1 404"), answer[:100]


async def test_metrics_are_not_among_what_clients_may_ask() -> None:
    async with _asking() as client:
        for path in ("/metrics", "/metrics/", "//metrics", "/%6detrics", "/metrics?name[]=x", "/docs/../metrics"):
            assert (await client.get(path)).status_code == 404, path
    with Ports() as ports:
        port = ports.take()
        async with (
            _serving(tidings_metrics_port=port) as served,
            httpx2.AsyncClient(trust_env=False, timeout=PATIENCE) as client,
        ):
            assert (await client.get(f"{served.url}/metrics")).status_code == 404
            answer = await client.get(f"http://127.0.0.1:{port}/metrics")
            assert "python_info" in answer.text


def test_no_service_believes_a_client_about_its_address(monkeypatch: pytest.MonkeyPatch) -> None:
    arguments = [argument.replace("${port}", "8080") for argument in UVICORN[3:]]
    assert uvicorn.main.make_context("uvicorn", [*arguments, "shop:app"]).params["proxy_headers"] is False
    for image in ("service", "archive"):
        text = (ROOT / f"images/{image}.Dockerfile").read_text()
        settings = dict(re.findall(r"\b(UVICORN_\w+)=([^ $\n]+)(?=[ \n])", text))
        with monkeypatch.context() as environment:
            for name, value in settings.items():
                environment.setenv(name, value)
            context = uvicorn.main.make_context("uvicorn", ["shop:app"], auto_envvar_prefix="UVICORN")
        assert context.params["proxy_headers"] is False
        assert context.params["access_log"] is False, "the image's settings are read"


def test_every_service_has_its_edges_from_create_app() -> None:
    mains = sorted([*ROOT.glob("services/*/src/*/main.py"), *ROOT.glob("archive/src/*/main.py")])
    assert len(mains) == 11
    for main in mains:
        text = main.read_text()
        assert "create_app(" in text, main
        assert "= FastAPI(" not in text, main
