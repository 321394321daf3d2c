"""What third parties answer, and what customers type on its way to them and to mail programs."""

from __future__ import annotations

import asyncio
import contextlib
import gzip
from collections.abc import AsyncIterator, Callable
from datetime import UTC, datetime
from email import message_from_bytes
from email.message import EmailMessage
from email.policy import default
from typing import Any

import httpx2
import pytest
import typer

from loyalty.adapters.saas import MAX_RESPONSE, Saas
from loyalty.domain import Award, Refused, Unavailable
from loyalty.settings import LoyaltySettings
from notifications.adapters import smtp
from notifications.adapters.composing import compose, plain
from notifications.adapters.smtp import SmtpMailer
from notifications.domain import Email, NotNow, deliverable
from notifications.domain import Refused as MailRefused
from notifications.settings import NotificationsSettings
from orders.settings import OrdersSettings
from orders.use_cases.coupled import Collaborators, Unanswered
from storefront.adapters.forwarding import LARGEST_ANSWER
from storefront.main import application
from storefront.settings import StorefrontSettings
from tidings.testing.asgi import lifespan
from tidings_cli import archive
from tidings_cli.testing.programs import Ports
from tidings_cli.testing.serving import Served
from tidings_cli.up import probes

NOW = datetime(2026, 3, 14, 12, tzinfo=UTC)
AWARD = Award(order_id="o-1", customer_id="ada", points=9, asked_at=NOW)
PATIENCE = 60.0


async def _endless() -> AsyncIterator[bytes]:
    while True:
        yield b"x" * 65536


class _Bomb(httpx2.AsyncByteStream):
    async def __aiter__(self) -> AsyncIterator[bytes]:
        yield gzip.compress(b"0" * 10_000_000)


def _saas(answer: Callable[[httpx2.Request], httpx2.Response]) -> Saas:
    return Saas(LoyaltySettings(), httpx2.MockTransport(answer))


@pytest.mark.parametrize(
    "answer",
    [
        lambda _: httpx2.Response(200, content=_endless()),
        lambda _: httpx2.Response(200, content=b" " * (MAX_RESPONSE + 1)),
        lambda _: httpx2.Response(500, content=_endless()),
        lambda _: httpx2.Response(200, stream=_Bomb(), headers={"content-encoding": "gzip"}),
        lambda _: httpx2.Response(200, content=b"[" * 60_000),
        lambda _: httpx2.Response(200, content=b'{"txn": {"no": 1e999, "balAft": 1}}'),
        lambda _: httpx2.Response(200, content=b'{"txn": {"no": "\xff", "\xff": 1, "balAft": 1}}'),
        lambda _: httpx2.Response(422, content=b'{"cd": "\xff", "msg": "\xff"}'),
    ],
    ids=[
        "endless",
        "just beyond",
        "endless error",
        "compressed",
        "deep",
        "no number",
        "no text",
        "no text in an error",
    ],
)
async def test_an_answer_of_the_saas_is_bounded(answer: Callable[[httpx2.Request], httpx2.Response]) -> None:
    async with asyncio.timeout(PATIENCE):
        with pytest.raises(Unavailable) as caught:
            await _saas(answer).give(AWARD)
    assert len(str(caught.value)) < 1000


async def test_the_words_of_the_saas_are_bounded_and_printable() -> None:
    words = "\x1b[2J\r\nforged: line" + "x" * 50_000
    with pytest.raises(Refused) as caught:
        await _saas(lambda _: httpx2.Response(422, json={"cd": "A000", "msg": words})).give(AWARD)
    assert len(str(caught.value)) < 1000
    assert str(caught.value).isprintable()


async def test_an_answer_to_the_storefront_is_bounded() -> None:
    async def behind(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] != "http":
            return
        del receive
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-type", b"application/json")]})
        for _ in range(LARGEST_ANSWER // 65536 + 2):
            await send({"type": "http.response.body", "body": b"x" * 65536, "more_body": True})
        await send({"type": "http.response.body", "body": b""})

    with Ports() as ports:
        served = Served(behind, ports.take())
        await served.start()
        urls: dict[str, Any] = dict.fromkeys(("orders_url", "menu_url", "tracking_url"), served.url)
        app = application(StorefrontSettings(**urls))
        transport = httpx2.ASGITransport(app)
        async with lifespan(app), httpx2.AsyncClient(transport=transport, base_url="http://127.0.0.1") as client:
            answer = await client.get("/api/menu")
        await served.stop()
    assert (answer.status_code, answer.json()["service"]) == (502, "menu")


TYPED = [
    "Buy at http://evil.example/now",
    "https://evil.example",
    "www.evil.example",
    "evil.example",
    "evil\u3002example",
    "mailto:me@evil.example",
    "x@evil.example",
    "a\r\nBcc: victim@example.org\r\n\r\nBody",
    "a\nb\x00c\x1b[31m",
    "\u202egnp.exe",
    "\ud800",
    "<a href='http://evil.example'>here</a>",
    "x" * 100_000,
]


def _email(**changed: Any) -> Email:
    supplied = {"email_id": "o-1-orderConfirmed", "customer_id": "c-1", "to": "ada@example.org", "order_id": "o-1"}
    return Email(**{**supplied, "template": "orderConfirmed", "asked_at": NOW, **changed})


@pytest.mark.parametrize("typed", TYPED)
def test_what_a_customer_types_is_text_in_a_mail_and_nothing_else(typed: str) -> None:
    parameters = dict.fromkeys(("name", "items", "address", "explanation"), typed) | {"fulfilment": "delivery"}
    written = compose(_email(parameters=parameters), "shop@example.org").as_bytes()
    message = message_from_bytes(written, EmailMessage, policy=default)
    assert message["To"] == "ada@example.org"
    assert message["Bcc"] is None
    for part in message.iter_parts():
        text = part.get_content()
        for link in ("://", "evil.example", "evil\u3002example", "@evil"):
            assert link not in text, text
        assert "<a href" not in text or part.get_content_type() == "text/plain"
        assert all(item.isprintable() or item in "\r\n\t" for item in text)
        assert len(text) < 40_000


def test_ordinary_names_stay_readable() -> None:
    for text in ("Ada Lovelace", "Zoë O'Neill-Müller", "J. R. R. Tolkien", "19.00 EUR", "2 x Margherita, 1 x Verdure"):
        assert plain(text) == text


@pytest.mark.parametrize("to", ["a@b\r\nRCPT TO:<x@y>", "a@b\n", "a@b, c@d", "<a@b>", "a@b\x00", " a@b"])
def test_an_address_that_is_several_or_commands_is_refused(to: str) -> None:
    assert not deliverable(to)


@pytest.mark.parametrize("order_id", ["o\r\nBcc: x@y", "\ud800", "x" * 5000])
def test_an_order_id_cannot_add_a_header(order_id: str) -> None:
    written = compose(_email(order_id=order_id), "shop@example.org").as_bytes()
    assert message_from_bytes(written, EmailMessage, policy=default)["Bcc"] is None


async def test_a_mail_that_cannot_be_written_is_refused_and_not_tried_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(*_: object) -> None:
        raise ValueError("Header values may not contain linefeed\n\x1b")

    monkeypatch.setattr(smtp, "compose", fails)
    with pytest.raises(MailRefused) as caught:
        await SmtpMailer(NotificationsSettings()).send(_email())
    assert str(caught.value).isprintable()


async def test_a_mail_server_with_an_endless_answer_is_cut_off() -> None:
    ended = asyncio.Event()

    async def greet(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while True:
                writer.write(b"220-\x1b[2J" + b"x" * 500 + b"\r\n")
                await writer.drain()
                await asyncio.sleep(0.001)
        except ConnectionError:
            writer.close()
            ended.set()

    server = await asyncio.start_server(greet, "127.0.0.1")
    async with server:
        port = server.sockets[0].getsockname()[1]
        chosen = NotificationsSettings(smtp_host="127.0.0.1", smtp_port=port, deadline=1.0)
        async with asyncio.timeout(PATIENCE):
            with pytest.raises(NotNow) as caught:
                await SmtpMailer(chosen).send(_email())
            await ended.wait()
    assert len(str(caught.value)) < 1000


ODD_ANSWERS: dict[str, Callable[[httpx2.Request], httpx2.Response]] = {
    "endless": lambda _: httpx2.Response(200, content=_endless()),
    "compressed": lambda _: httpx2.Response(200, stream=_Bomb(), headers={"content-encoding": "gzip"}),
    "deep": lambda _: httpx2.Response(200, content=b"[" * 60_000),
    "slow": lambda _: httpx2.Response(200, content=_trickle()),
    "no object": lambda _: httpx2.Response(200, content=b"[1]"),
    "no text": lambda _: httpx2.Response(200, content=b"\xff"),
}
odd_answers = pytest.mark.parametrize("answer", ODD_ANSWERS.values(), ids=ODD_ANSWERS)


async def _trickle() -> AsyncIterator[bytes]:
    while True:
        yield b" "
        await asyncio.sleep(0.01)


@odd_answers
async def test_an_answer_in_the_coupled_mode_is_bounded(answer: Callable[[httpx2.Request], httpx2.Response]) -> None:
    called = Collaborators(OrdersSettings(patience=1.0), None, httpx2.MockTransport(answer))
    async with asyncio.timeout(PATIENCE):
        with pytest.raises(Unanswered, match="payments"):
            await called._get("payments", "http://payments/payments/1")


@odd_answers
async def test_an_answer_to_a_probe_is_bounded(answer: Callable[[httpx2.Request], httpx2.Response]) -> None:
    def sidecar(request: httpx2.Request) -> httpx2.Response:
        return httpx2.Response(204) if request.url.path.endswith("healthz") else answer(request)

    async with httpx2.AsyncClient(transport=httpx2.MockTransport(sidecar)) as client, asyncio.timeout(PATIENCE):
        assert await probes.problem(probes.SidecarServes("http://sidecar", ""), client)


ENDLESS = {
    "endless": (b"HTTP/1.1 200 OK\r\n\r\n", b"x" * 65_536),
    "endless error": (b"HTTP/1.1 500 Oh\r\n\r\n", b"x" * 65_536),
    "slow": (b"HTTP/1.1 200 OK\r\n\r\n", b" "),
    "compressed": (b"HTTP/1.1 200 OK\r\ncontent-encoding: gzip\r\n\r\n", gzip.compress(b"0" * 10_000)),
    "no HTTP": (b"SSH-2.0\r\n", b""),
}


@pytest.mark.parametrize(("head", "then"), ENDLESS.values(), ids=ENDLESS)
async def test_an_answer_to_the_command_line_is_bounded(
    head: bytes, then: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(archive, "MAX_ANSWER", 1_000_000)
    monkeypatch.setattr(archive, "_WHOLE", 1.0)

    async def answer(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(head)
        with contextlib.suppress(ConnectionError):
            while then:
                writer.write(then)
                await writer.drain()
                await asyncio.sleep(0.001)
        writer.close()
        ended.set()

    ended = asyncio.Event()
    async with await asyncio.start_server(answer, "127.0.0.1", 0) as server, asyncio.timeout(PATIENCE):
        port = server.sockets[0].getsockname()[1]
        asked = archive.Archive(f"http://127.0.0.1:{port}")
        with pytest.raises(typer.Exit):
            await asyncio.to_thread(asked.get, "/dead-letters")
        await ended.wait()


@pytest.mark.parametrize("body", [b"[1]", b"<html>", b"\xff", b"[" * 60_000])
def test_what_is_no_archive_is_refused_in_words(
    body: bytes, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(archive, "read", lambda *_, **__: httpx2.Response(200, content=body))
    with pytest.raises(typer.Exit):
        archive.Archive("http://archive").get("/dead-letters")
    assert "is not an archive" in capsys.readouterr().err
