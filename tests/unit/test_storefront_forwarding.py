"""Forwarding by the storefront and its responses to unavailable services, on real sockets."""

import asyncio
import json
import random
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import httpx2
import prometheus_client
import pytest
import pytest_asyncio
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response, StreamingResponse
from tests.support.cancelling import ROUNDS, SEED, Client, numbers, uncollected

from storefront.adapters.forwarding import LARGEST
from storefront.adapters.page import STATIC
from storefront.main import application
from storefront.settings import StorefrontSettings
from tidings.testing import lifespan
from tidings.web.guard import API_POLICY, HEADERS, PAGE_POLICY
from tidings_cli.testing.programs import Ports
from tidings_cli.testing.serving import Served

Answer = Callable[[Request], Awaitable[Response]]
pytestmark = pytest.mark.asyncio(loop_scope="module")
ORDER = {"fulfilment": "pickup", "lines": [{"sku": "marinara", "quantity": 1}]}


class Behind:
    """The service behind the storefront: remembers what it is asked, and answers as the test says."""

    def __init__(self, port: int) -> None:
        self.asked: list[Request] = []
        self.bodies: list[bytes] = []
        self.answer: Answer = self.fine
        self.served = Served(self, port)

    async def fine(self, request: Request) -> Response:
        return JSONResponse({"path": request.url.path}, headers={"location": "/orders/o-1", "x-internal": "secret"})

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] != "http":  # no lifespan
            return
        request = Request(scope, receive)
        self.bodies.append(await request.body())
        self.asked.append(request)
        response = await self.answer(request)
        await response(scope, receive, send)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def started() -> AsyncIterator[Behind]:
    with Ports() as ports:
        service = Behind(ports.take())
        await service.served.start()
        yield service
        await service.served.stop()


@pytest.fixture
def behind(started: Behind) -> Behind:
    started.asked.clear()
    started.bodies.clear()
    started.answer = started.fine
    return started


@asynccontextmanager
async def storefront(behind: Behind, **more: Any) -> AsyncIterator[httpx2.AsyncClient]:
    urls = dict.fromkeys(("orders_url", "menu_url", "tracking_url"), behind.served.url)
    with Ports() as ports:
        server = Served(application(StorefrontSettings(**(urls | {"patience": 1.0} | more))), ports.take())
        await server.start()
        async with httpx2.AsyncClient(base_url=server.url, trust_env=False, timeout=60) as client:
            yield client
        await server.stop()


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def shop(started: Behind) -> AsyncIterator[httpx2.AsyncClient]:
    async with storefront(started) as client:
        yield client


@pytest.mark.parametrize(
    ("method", "asked", "passed_on"),
    [
        ("GET", "/api/menu", "/menu"),
        ("GET", "/api/menu/smoky-bbq", "/menu/smoky-bbq"),
        ("POST", "/api/orders", "/orders"),
        ("GET", "/api/orders/o-1", "/orders/o-1"),
        ("POST", "/api/orders/o-1/cancel", "/orders/o-1/cancel"),
        ("GET", "/api/track", "/track?limit=100"),
        ("GET", "/api/track?limit=7", "/track?limit=7"),
        ("GET", "/api/totals", "/totals"),
        ("GET", "/api/track/o-1", "/track/o-1"),
        ("GET", "/api/track/o-1/stream", "/track/o-1/stream"),
        ("GET", "/api/stream", "/stream"),
    ],
)
async def test_these_are_passed_on(
    shop: httpx2.AsyncClient, behind: Behind, method: str, asked: str, passed_on: str
) -> None:
    answer = await shop.request(method, asked)
    assert answer.status_code == 200
    (request,) = behind.asked
    assert request.method == method
    assert f"{request.url.path}{'?' if request.url.query else ''}{request.url.query}" == passed_on


@pytest.mark.parametrize(
    ("method", "asked", "status"),
    [
        ("PUT", "/api/menu/smoky-bbq/price", 405),
        ("GET", "/api/menu/smoky-bbq/price", 404),
        ("POST", "/api/menu/smoky-bbq/sold-out", 405),
        ("DELETE", "/api/orders/o-1", 405),
        ("POST", "/api/rebuild", 405),
        ("GET", "/api/rebuild", 404),
        ("GET", "/api/orders/..%2Fledger", 404),
        ("GET", "/api/orders/a%0ab", 422),
        ("GET", "/api/menu/UPPER", 422),
        ("GET", "/api/track?limit=100000", 422),
    ],
)
async def test_nothing_else_is(shop: httpx2.AsyncClient, behind: Behind, method: str, asked: str, status: int) -> None:
    answer = await shop.request(method, asked)
    assert answer.status_code == status
    assert answer.headers["content-type"] == "application/problem+json"
    assert behind.asked == []


async def test_what_matters_goes_along_and_nothing_more(shop: httpx2.AsyncClient, behind: Behind) -> None:
    headers = {"Idempotency-Key": "k-1", "Cookie": "session=1", "Authorization": "Bearer x", "traceparent": "00-1"}
    answer = await shop.post("/api/orders", json=ORDER, headers=headers)
    (request,) = behind.asked
    assert json.loads(behind.bodies[0]) == ORDER
    assert request.headers["idempotency-key"] == "k-1"
    assert request.headers["content-type"] == "application/json"
    assert request.headers["traceparent"] == "00-1"
    assert "cookie" not in request.headers
    assert "authorization" not in request.headers
    assert answer.headers["location"] == "/api/orders/o-1"
    assert answer.headers["cache-control"] == "no-store"
    assert "x-internal" not in answer.headers


async def test_a_refusal_is_passed_back_as_it_is(shop: httpx2.AsyncClient, behind: Behind) -> None:
    async def sold_out(_: Request) -> Response:
        return JSONResponse({"detail": "sold out: Marinara"}, 409, media_type="application/problem+json")

    async def no_menu(_: Request) -> Response:
        return JSONResponse({"detail": "the menu has not arrived yet"}, 503, headers={"Retry-After": "1"})

    behind.answer = sold_out
    answer = await shop.post("/api/orders", json=ORDER)
    assert (answer.status_code, answer.json()) == (409, {"detail": "sold out: Marinara"})
    behind.answer = no_menu
    answer = await shop.post("/api/orders", json=ORDER)
    assert (answer.status_code, answer.headers["retry-after"]) == (503, "1")
    assert "service" not in answer.json()  # it is there, and says what is wrong


@pytest.mark.parametrize(
    ("path", "service", "still"),
    [
        ("/api/orders/o-1", "orders", "existing orders are not affected"),
        ("/api/menu", "menu", "ordering still works"),
        ("/api/track/o-1", "tracking", "ordering still works"),
        ("/api/track/o-1/stream", "tracking", "ordering still works"),
    ],
)
async def test_a_missing_service(shop: httpx2.AsyncClient, behind: Behind, path: str, service: str, still: str) -> None:
    await behind.served.stop()
    answer = await shop.get(path)
    assert answer.status_code == 503
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.headers["retry-after"] == "2"
    assert answer.json()["service"] == service
    assert f"{service} cannot be reached" in answer.json()["detail"]
    assert still in answer.json()["detail"]
    assert (await shop.get("/")).status_code == 200
    assert (await shop.get("/readyz")).json() == {"status": "ready"}
    await behind.served.start()
    assert (await shop.get("/api/menu")).status_code == 200


async def test_a_service_that_does_not_answer_in_time(behind: Behind) -> None:
    async def late(_: Request) -> Response:
        await asyncio.sleep(1)
        return PlainTextResponse("too late")

    behind.answer = late
    async with storefront(behind, patience=0.2) as shop:
        answer = await shop.post("/api/orders", json=ORDER)
    assert answer.status_code == 502
    assert answer.json()["service"] == "orders"
    assert "did not answer in time" in answer.json()["detail"]
    assert "same Idempotency-Key" in answer.json()["detail"]


@pytest.mark.parametrize("path", ["/api/menu", "/api/track/o-1/stream"])
async def test_a_service_that_breaks(shop: httpx2.AsyncClient, behind: Behind, path: str) -> None:
    async def breaks(_: Request) -> Response:
        return PlainTextResponse("Traceback: secrets of the house", 500)

    behind.answer = breaks
    answer = await shop.get(path)
    assert answer.status_code == 502
    assert "secrets" not in answer.text
    assert "failed" in answer.json()["detail"]


async def test_a_body_larger_than_any_order_is_refused(shop: httpx2.AsyncClient, behind: Behind) -> None:
    answer = await shop.post("/api/orders", content=b"x" * (LARGEST + 1))
    assert answer.status_code == 413
    assert str(LARGEST) in answer.json()["detail"]
    assert behind.asked == []


def frames(finished: asyncio.Event, *later: bytes) -> Answer:
    """Yield one frame at once and the others on request; set `gone` when the stream is closed."""

    async def body() -> AsyncIterator[bytes]:
        try:
            yield b"id: 1\ndata: first\n\n"
            for item in later:
                yield item
            await asyncio.sleep(60)
        finally:
            finished.set()

    async def answer(_: Request) -> Response:
        return StreamingResponse(body(), media_type="text/event-stream")

    return answer


async def test_a_stream_is_forwarded_while_it_is_written(shop: httpx2.AsyncClient, behind: Behind) -> None:
    event = asyncio.Event()
    behind.answer = frames(event, b": still here\n\n", b"id: 2\ndata: sec", b"ond\n\n")
    async with shop.stream("GET", "/api/track/o-1/stream", headers={"Last-Event-ID": "7"}) as answer:
        assert answer.headers["content-type"].startswith("text/event-stream")
        assert answer.headers["cache-control"] == "no-store"
        assert answer.headers["content-security-policy"]
        received = b""
        async with asyncio.timeout(60):
            async for chunk in answer.aiter_raw():
                received += chunk
                if received.endswith(b"second\n\n"):
                    break
    assert received == b"id: 1\ndata: first\n\n: still here\n\nid: 2\ndata: second\n\n"
    assert behind.asked[0].headers["last-event-id"] == "7"
    async with asyncio.timeout(60):
        await event.wait()  # who watches no longer is not told any more


async def test_a_stream_that_falls_silent_is_abandoned(behind: Behind) -> None:
    behind.answer = frames(asyncio.Event())
    async with storefront(behind, silence=0.2) as shop, shop.stream("GET", "/api/stream") as answer:
        async with asyncio.timeout(60):
            received = [chunk async for chunk in answer.aiter_raw()]
    assert b"".join(received) == b"id: 1\ndata: first\n\n"


async def test_too_many_watchers_do_not_prevent_ordering(behind: Behind) -> None:
    behind.answer = frames(asyncio.Event())
    async with storefront(behind, watchers=1) as shop, shop.stream("GET", "/api/stream") as first:
        assert first.status_code == 200
        second = await shop.get("/api/stream")
        assert second.status_code == 503
        assert "Too many" in second.json()["detail"]
        behind.answer = behind.fine
        assert (await shop.post("/api/orders", json=ORDER)).status_code == 200


async def test_another_site_cannot_make_a_browser_ask(shop: httpx2.AsyncClient, behind: Behind) -> None:
    for site, status in (("cross-site", 403), ("same-site", 403), ("same-origin", 200), ("none", 200)):
        answer = await shop.post("/api/orders/o-1/cancel", headers={"Sec-Fetch-Site": site})
        assert answer.status_code == status, site
    assert len(behind.asked) == 2


async def test_the_board_can_be_switched_off(behind: Behind) -> None:
    async with storefront(behind, board=False) as shop:
        assert (await shop.get("/api/shop")).json() == {"board": False}
        assert (await shop.get("/api/track")).status_code == 404
        assert (await shop.get("/api/stream")).status_code == 404
        assert (await shop.get("/api/track/o-1")).status_code == 200


@pytest.mark.parametrize("path", ["/", "/checkout", "/orders", "/orders/o-1", "/board"])
async def test_every_view_is_the_page(shop: httpx2.AsyncClient, path: str) -> None:
    answer = await shop.get(path)
    assert (answer.status_code, answer.headers["cache-control"]) == (200, "no-cache")
    assert answer.text == (Path(STATIC) / "index.html").read_text()


async def test_an_unknown_path_returns_the_page_with_status_404(shop: httpx2.AsyncClient) -> None:
    answer = await shop.get("/wp-admin")
    assert (answer.status_code, "<html" in answer.text) == (404, True)


@pytest.mark.parametrize(
    "path", ["/", "/assets/js/main.js", "/assets/nothing", "/api/menu", "/api/nothing", "/healthz"]
)
async def test_every_answer_carries_the_security_headers(shop: httpx2.AsyncClient, path: str) -> None:
    answer = await shop.get(path)
    expected = {
        name: value for name, value in HEADERS.items() if name not in ("Content-Security-Policy", "Cache-Control")
    }
    assert {name: answer.headers.get(name) for name in expected} == expected
    assert answer.headers["content-security-policy"] == (PAGE_POLICY if path == "/" else API_POLICY)


async def test_files_are_small_on_the_wire_and_asked_for_a_single_time(shop: httpx2.AsyncClient) -> None:
    first = await shop.get("/assets/js/toppings.js", headers={"Accept-Encoding": "gzip"})
    assert first.headers["content-encoding"] == "gzip"
    assert first.headers["content-type"].startswith("text/javascript")
    assert first.headers["cache-control"] == "no-cache"
    again = await shop.get("/assets/js/toppings.js", headers={"If-None-Match": first.headers["etag"]})
    assert (again.status_code, again.headers["cache-control"]) == (304, "no-cache")


async def test_it_reports_its_health(shop: httpx2.AsyncClient) -> None:
    assert (await shop.get("/healthz")).json() == {"status": "ok"}
    await shop.get("/api/menu")
    metrics = prometheus_client.generate_latest().decode()
    assert 'storefront_forwarded_seconds_count{service="menu",status="200"}' in metrics
    described = (await shop.get("/openapi.json")).json()
    assert "/api/orders" in described["paths"]


async def test_a_browser_that_leaves_before_the_stream_begins(behind: Behind) -> None:
    """It must not leave a connection to tracking behind, or the watchers' places are used up one by one."""
    event = asyncio.Event()
    behind.answer = frames(event)
    async with storefront(behind, watchers=1) as shop:
        for _ in range(3):
            with suppress(httpx2.TransportError):
                async with asyncio.timeout(60), shop.stream("GET", "/api/stream"):
                    pass
            async with asyncio.timeout(60):
                await event.wait()
            event.clear()
            await asyncio.sleep(0.05)
        async with shop.stream("GET", "/api/stream") as answer:
            assert answer.status_code == 200


async def test_requests_that_end_or_are_cancelled_leave_no_connection_behind(behind: Behind) -> None:
    chance, stream = random.Random(SEED), frames(asyncio.Event())
    behind.answer = lambda request: stream(request) if request.url.path == "/stream" else behind.fine(request)
    url = behind.served.url
    app = application(StorefrontSettings(orders_url=url, menu_url=url, tracking_url=url))

    async def leave() -> None:
        path = chance.choice(["/api/stream", "/api/menu"])
        client = Client(path, reads=chance.randrange(3))
        asking = asyncio.ensure_future(app(client.scope, client.receive, client.send))
        await asyncio.sleep(chance.uniform(0, 0.01))
        client.gone.set()
        if path == "/api/menu" or chance.random() < 0.5:  # without a stream, nobody is told that a browser went away
            asking.cancel()
        await asyncio.wait([asking])

    async with lifespan(app):
        with uncollected():
            for _ in numbers(-(-(ROUNDS or 400) // 10)):
                await asyncio.gather(*(leave() for _ in range(10)))
                behind.asked.clear()
                behind.bodies.clear()
            streams, requests = app.state.forwarder._streams, app.state.forwarder._requests
            for item in (streams, requests):
                busy = [known for known in item._transport._pool.connections if not known.is_idle()]
                assert not busy
            assert not app.state.streams._open


@pytest.mark.parametrize("value", [b"\xff\x80", "é".encode(), b"\xe9", b"a\tb", b"9" * 5000, b""])
@pytest.mark.parametrize("name", ["last-event-id", "idempotency-key", "traceparent", "accept"])
async def test_any_bytes_of_a_header_are_forwarded_as_they_are(
    shop: httpx2.AsyncClient, behind: Behind, name: str, value: bytes
) -> None:
    behind.answer = behind.fine
    response = await shop.get("/api/menu", headers=[(name.encode(), value)])
    assert response.status_code == 200
    assert behind.asked[0].headers.get(name, "").encode("latin-1") == value


@pytest.mark.parametrize("value", [b"\xff\x80", b"9" * 5000, b"-1", b"run-\xd9\xa3"])
async def test_a_stream_is_forwarded_with_any_last_id(shop: httpx2.AsyncClient, behind: Behind, value: bytes) -> None:
    behind.answer = frames(asyncio.Event())
    async with shop.stream("GET", "/api/stream", headers=[(b"last-event-id", value)]) as answer:
        assert answer.status_code == 200
