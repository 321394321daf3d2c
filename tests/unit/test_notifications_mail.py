"""Format of e-mails, and their delivery to a real mail server: the simulator's, in this process."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec
import pytest
from aiosmtpd.smtp import SMTP, AuthResult
from pydantic import ValidationError
from simulators.smtp import Fault, Mailbox

from notifications.adapters.composing import compose
from notifications.adapters.smtp import SmtpMailer
from notifications.domain import Email, NotNow, Refused, Template, message_id
from notifications.settings import NotificationsSettings
from tidings_cli.testing.programs import Ports

SENDER = "Plant-Based Pizza <orders@pizza.example>"
EXAMPLES = Path(__file__).parents[2] / "services" / "notifications" / "contracts" / "examples"


def email(template: Template = "orderConfirmed", **parameters: str) -> Email:
    return Email(
        email_id=f"o-1-{template}",
        customer_id="c-1",
        to="ada@example.org",
        template=template,
        order_id="o-1",
        asked_at=datetime(2026, 3, 14, 18, 2, tzinfo=UTC),
        parameters=parameters or {"name": "Ada", "items": "2 x Funghi", "total": "25.00 EUR", "fulfilment": "pickup"},
    )


def parts(message: Any) -> tuple[str, str]:
    return tuple(message.get_body((kind,)).get_content() for kind in ("plain", "html"))


def test_its_headers_have_sender_date_and_id():
    headers = dict(compose(email(), SENDER).items())
    assert headers["Message-ID"] == message_id("o-1-orderConfirmed", "pizza.example")
    assert headers["Date"] == "Sat, 14 Mar 2026 18:02:00 +0000"
    assert [headers[name] for name in ("From", "To", "Subject", "X-Order-Id", "Auto-Submitted")] == [
        SENDER,
        "ada@example.org",
        "Your order is confirmed",
        "o-1",
        "auto-generated",
    ]


@pytest.mark.parametrize(
    ("template", "parameters", "expected_words"),
    [
        ("orderConfirmed", {"fulfilment": "pickup"}, ["payment is confirmed", "keep your pizza", "at the counter"]),
        ("orderConfirmed", {"fulfilment": "delivery", "address": "Basil Lane 7"}, ["A driver brings", "Basil Lane 7"]),
        (
            "orderCancelled",
            {"explanation": "the kitchen is closed"},
            ["cancelled: the kitchen is closed.", "pay nothing"],
        ),
        ("orderCancelled", {}, ["Your order was cancelled.", "You pay nothing"]),
        ("orderCompleted", {}, ["Enjoy your meal", "loyalty points"]),
    ],
)
def test_text_and_html_have_the_same_content(template: Template, parameters: dict[str, str], expected_words: list[str]):
    message = compose(
        email(template, **{"name": "Ada", "items": "2 x Funghi", "total": "25.00 EUR", **parameters}), SENDER
    )
    for content in parts(message):
        for words in ["Hello Ada,", "2 x Funghi", "25.00 EUR", "o-1", *expected_words]:
            assert words in content
        assert "{{" not in content


@pytest.mark.parametrize("template", ["orderConfirmed", "orderCancelled", "orderCompleted"])
def test_a_minimal_command_is_enough_for_an_email(template: Template):
    for content in parts(compose(email(template, unknown="of a later version"), SENDER)):
        assert "Hello," in content
        assert "Pizzas" not in content


def test_what_a_customer_writes_is_text_and_never_html():
    text, html = parts(compose(email(name="<script>alert(1)</script> & Söhne"), SENDER))
    assert "<script>alert(1)</script> & Söhne" in text
    assert "<script" not in html
    assert "&lt;script&gt;alert(1)&lt;/script&gt; &amp; Söhne" in html


@pytest.mark.parametrize("path", sorted(EXAMPLES.glob("notifications.sendEmail.v1*.json")), ids=lambda path: path.stem)
def test_every_published_example_makes_an_email(path: Path):
    example = msgspec.json.decode(path.read_bytes())
    taken = msgspec.convert(
        {
            "email_id": example["emailId"],
            "customer_id": example["customerId"],
            "order_id": example["orderId"],
            "asked_at": datetime.now(UTC),
            **{name: example[name] for name in ("to", "template", "parameters")},
        },
        Email,
    )
    assert all(f"Hello {example['parameters']['name']}," in content for content in parts(compose(taken, SENDER)))


# -- handing over ---------------------------------------------------------------------------------------------------

Serve = Callable[..., Awaitable[SmtpMailer]]


@pytest.fixture
async def serve() -> AsyncIterator[Serve]:
    """Start a mail server around a mailbox; gives a mailer that knows where it is."""
    async with AsyncExitStack() as stack:

        async def start(mailbox: object, *, settings: dict[str, object] | None = None, **options: Any) -> SmtpMailer:
            loop = asyncio.get_running_loop()
            server = await loop.create_server(lambda: SMTP(mailbox, hostname="mail", **options), "127.0.0.1", 0)
            stack.callback(server.close)
            port = server.sockets[0].getsockname()[1]
            return SmtpMailer(NotificationsSettings.model_validate({"smtp_port": port, **(settings or {})}))

        yield start


class Simple(Mailbox):
    """Reads headers line by line, as simple mail programs do."""

    headers: list[bytes]

    async def handle_DATA(self, server: Any, session: Any, envelope: Any) -> str:  # noqa: N802 - aiosmtpd's name
        self.headers = envelope.original_content.partition(b"\r\n\r\n")[0].splitlines()
        return await super().handle_DATA(server, session, envelope)


async def test_its_message_id_is_on_one_line(serve: Serve):
    mailbox = Simple()
    mailer = await serve(mailbox)
    long = email()
    long.email_id = "01a208dd-60ef-743e-926b-fd217aae54e2-orderConfirmed"
    await mailer.send(long)
    expected = message_id(long.email_id, "pizza.example")
    assert f"Message-ID: {expected}".encode() in mailbox.headers
    assert [mail.message_id for mail in mailbox.find("o-1", None)] == [expected]


async def test_an_email_arrives_and_a_second_sending_is_known(serve: Serve):
    mailbox = Mailbox()
    mailer = await serve(mailbox)
    await mailer.send(email())
    await mailer.send(email())
    (mail,) = mailbox.find("o-1", "ada@example.org")
    assert (mail.copies, mail.subject, mail.sender) == (2, "Your order is confirmed", "orders@pizza.example")
    assert ("Hello Ada," in mail.text, "Hello Ada," in mail.html) == (True, True)


@pytest.mark.parametrize("at", ["rcpt", "data"])
@pytest.mark.parametrize(
    ("fault", "kind", "expected_words"), [("temporary", NotNow, "451"), ("permanent", Refused, "550")]
)
async def test_the_servers_reply_about_the_email_decides(
    serve: Serve, fault: Any, kind: type[Exception], expected_words: str, at: Any
):
    mailbox = Mailbox()
    mailbox.fault = Fault(fault=fault, at=at)
    mailer = await serve(mailbox)
    with pytest.raises(kind, match=expected_words):
        await mailer.send(email())
    mailbox.fault = Fault()
    await mailer.send(email())
    assert len(mailbox.find("o-1", None)) == 1


class NoSender(Mailbox):
    async def handle_MAIL(self, *_: object) -> str:  # noqa: N802 - aiosmtpd's name
        return "553 5.7.1 You may not send as that"


class Mute(Mailbox):
    async def handle_MAIL(self, *_: object) -> str:  # noqa: N802 - as above
        await asyncio.sleep(0.5)
        return "250 OK, at last"


@pytest.mark.parametrize(
    ("mailbox", "settings", "expected_words"),
    [
        (NoSender(), {}, "553"),
        (Mute(), {"deadline": 0.1}, "did not answer within 0.1 s|Timed out"),
        (Mailbox(), {"smtp_security": "starttls"}, "STARTTLS"),
        (Mailbox(), {"smtp_security": "tls"}, "SSL|TLS|Timeout|Connect"),
        (Mailbox(), {"smtp_username": "shop", "smtp_password": "guess"}, "AUTH|auth"),
    ],
)
async def test_the_servers_reply_about_us_delays_emails(
    serve: Serve, mailbox: Mailbox, settings: dict[str, object], expected_words: str
):
    mailer = await serve(mailbox, settings={"deadline": 5, **settings})
    with pytest.raises(NotNow, match=expected_words):
        await mailer.send(email())
    assert mailbox.find(None, None) == []


async def test_an_unreachable_mail_server_delays_emails():
    with Ports() as ports:
        mailer = SmtpMailer(NotificationsSettings(smtp_port=ports.take()))
        with pytest.raises(NotNow, match="Connect"):
            await mailer.send(email())


@pytest.mark.filterwarnings("ignore:Requiring AUTH while not requiring TLS")
@pytest.mark.parametrize(("password", "comes"), [("secret", True), ("guess", False)])
async def test_login_where_the_server_asks_for_it(serve: Serve, password: str, comes: bool):
    def check(*provided: Any) -> AuthResult:
        login = provided[-1]
        return AuthResult(success=(login.login, login.password) == (b"shop", b"secret"), handled=False)

    mailbox = Mailbox()
    settings = {"smtp_username": "shop", "smtp_password": password}
    mailer = await serve(mailbox, settings=settings, authenticator=check, auth_require_tls=False, auth_required=True)
    if comes:
        await mailer.send(email())
    else:
        with pytest.raises(NotNow, match="535"):
            await mailer.send(email())
    assert len(mailbox.find("o-1", None)) == comes


@pytest.mark.parametrize(
    "wrong", [{"sender": "nobody"}, {"sender": "Shop <>"}, {"smtp_security": "maybe"}, {"deadline": 0}]
)
def test_nonsensical_settings_are_reported_immediately(wrong: dict[str, object]):
    with pytest.raises(ValidationError):
        NotificationsSettings.model_validate(wrong)
