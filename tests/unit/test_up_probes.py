"""Readiness of services and sidecars, asked of a server that answers like them, and of bare ports."""

import asyncio

import httpx2
import pytest

from tidings_cli.up.probes import Answers, Listens, SidecarServes, Succeeds, problem

ANSWERS = {
    "/healthz": httpx2.Response(503, text="no menu"),
    "/up": httpx2.Response(200),
    "/v1.0/healthz": httpx2.Response(204),
}
ONE, OTHER = ("pubsub", "a.b.v1"), ("pubsub", "c.d.v1")


def answer(request: httpx2.Request) -> httpx2.Response:
    if request.url.path == "/v1.0/metadata" and request.headers["dapr-api-token"] == "to-dapr":
        return httpx2.Response(200, json={"subscriptions": [{"pubsubname": ONE[0], "topic": ONE[1]}]})
    return ANSWERS[request.url.path]


@pytest.mark.parametrize(
    ("probe", "wrong"),
    [
        (Answers("http://x/up"), ""),
        (Answers("http://x/healthz"), "http://x/healthz answers 503: no menu"),
        (SidecarServes("http://x", "to-dapr", frozenset({ONE})), ""),
        (SidecarServes("http://x", "to-dapr", frozenset({ONE, OTHER})), "not subscribed yet to c.d.v1"),
        (Succeeds(("true",)), ""),
        (Succeeds(("false",)), "`false` ends with exit code 1"),
    ],
)
async def test_what_is_wrong(probe: Answers | SidecarServes | Succeeds, wrong: str) -> None:
    async with httpx2.AsyncClient(transport=httpx2.MockTransport(answer)) as client:
        assert await problem(probe, client) == wrong


async def test_a_dead_service_is_unhealthy() -> None:
    def refuse(request: httpx2.Request) -> httpx2.Response:
        raise httpx2.ConnectError("refused", request=request)

    async with httpx2.AsyncClient(transport=httpx2.MockTransport(refuse)) as client:
        assert await problem(Answers("http://x/up"), client) == "http://x/up: refused"
        assert await problem(SidecarServes("http://x", ""), client) == "http://x/v1.0/healthz: refused"


@pytest.mark.parametrize(
    ("answer", "wrong"),
    [(b"+PONG", ""), (b"-LOADING", "answers b'-LOAD', not b'+PONG'"), (b"", "no answer within 0.2 s")],
)
async def test_a_store_that_is_still_loading_is_not_ready(
    answer: bytes, wrong: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not answer:
        monkeypatch.setattr("tidings_cli.up.probes.DEADLINE", 0.2)

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readline()
        writer.write(answer)
        await reader.read()
        writer.close()
        served.set()

    served = asyncio.Event()
    async with await asyncio.start_server(serve, "127.0.0.1", 0) as server, httpx2.AsyncClient(timeout=60) as client:
        port = server.sockets[0].getsockname()[1]
        assert await problem(Listens(port, b"PING\r\n", b"+PONG"), client) == wrong
        await served.wait()
