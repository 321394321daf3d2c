"""Simulated mail server: keeps received e-mails, counts copies of the same one, fails on request.

    python smtp.py --port 8102 --control-port 8103

SMTP on one port, and an HTTP control API for tests on the other:
    GET    /mails?order=ID&to=ADDRESS  distinct e-mails, oldest first, with numbers of copies
    DELETE /mails                      delete all
    GET    /control                    numbers of received, duplicate and refused e-mails, and the fault
    PUT    /control                    {"fault": "none|temporary|permanent|down", "at": "rcpt|data", "times": 3}

The latest 20,000 e-mails are kept in memory. The header X-Order-Id has the id of the order.
"""

from __future__ import annotations

import argparse
import asyncio
import email
import email.policy
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from email.message import EmailMessage
from email.parser import BytesHeaderParser
from http import HTTPStatus
from typing import Annotated, Literal

import msgspec
import uvicorn
from aiosmtpd.smtp import SMTP, Envelope, Session
from msgspec import Meta
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

_KEPT = 20_000
_ACCEPTED = "250 OK"


class Fault(msgspec.Struct, forbid_unknown_fields=True):
    """Simulated fault, for a number of e-mails (`times`) or until another one is set.

    `temporary` replies 451 and `permanent` 550, to the recipient or after the content; `down` closes the SMTP port.
    """

    fault: Literal["none", "temporary", "permanent", "down"] = "none"
    at: Literal["rcpt", "data"] = "rcpt"
    times: Annotated[int, Meta(ge=1)] | None = None


class Mail(msgspec.Struct, kw_only=True, rename="camel"):
    """A received e-mail."""

    message_id: str
    order_id: str
    sender: str
    to: list[str]
    subject: str
    headers: dict[str, str]
    text: str
    html: str
    received_at: datetime
    copies: int = 1


@dataclass(slots=True)
class _Received:
    """A received e-mail whose content is parsed when somebody asks for it: that takes longer than receiving it."""

    message_id: str
    order_id: str
    to: list[str]
    sender: str
    content: bytes
    received_at: datetime
    copies: int = 1

    @classmethod
    def of(cls, envelope: Envelope) -> _Received:
        content = envelope.original_content or b""
        headers = BytesHeaderParser(policy=email.policy.compat32).parsebytes(content)
        return cls(
            str(headers["message-id"]).strip(),
            str(headers["x-order-id"] or ""),
            list(envelope.rcpt_tos),
            envelope.mail_from or "",
            content,
            datetime.now(UTC),
        )

    def parsed(self) -> Mail:
        message = email.message_from_bytes(self.content, policy=email.policy.default)
        return Mail(
            message_id=self.message_id,
            order_id=self.order_id,
            sender=self.sender,
            to=self.to,
            subject=str(message["subject"]),
            headers={name: str(value) for name, value in message.items()},
            text=_part(message, "plain"),
            html=_part(message, "html"),
            received_at=self.received_at,
            copies=self.copies,
        )


class Mailbox:
    """Stores e-mails; handler for aiosmtpd, which prescribes the hook names."""

    def __init__(self) -> None:
        self.fault = Fault()
        self.counts: Counter[str] = Counter()
        self._mails: dict[str, _Received] = {}

    async def handle_RCPT(  # noqa: N802 - aiosmtpd's name
        self, _server: SMTP, _session: Session, envelope: Envelope, address: str, _options: list[str]
    ) -> str:
        """Accept or refuse a recipient."""
        refusal = self._refusal("rcpt")
        if refusal is None:
            envelope.rcpt_tos.append(address)
        return refusal or _ACCEPTED

    async def handle_DATA(self, _server: SMTP, _session: Session, envelope: Envelope) -> str:  # noqa: N802 - as above
        """Accept or refuse the content."""
        refusal = self._refusal("data")
        if refusal is None:
            self._keep(envelope)
        return refusal or _ACCEPTED

    def _refusal(self, at: str) -> str | None:
        fault = self.fault
        if fault.fault not in ("temporary", "permanent") or fault.at != at:
            return None
        if fault.times is not None:
            fault.times -= 1
            self.fault = fault if fault.times else Fault()
        self.counts[fault.fault] += 1
        return "451 4.3.0 Not now, try again" if fault.fault == "temporary" else "550 5.1.1 No such mailbox here"

    def _keep(self, envelope: Envelope) -> None:
        received = _Received.of(envelope)
        self.counts["received"] += 1
        known = self._mails.get(received.message_id)
        if known is not None:
            self.counts["copies"] += 1
            known.copies += 1
            return
        self._mails[received.message_id] = received
        if len(self._mails) > _KEPT:
            del self._mails[next(iter(self._mails))]

    def find(self, order: str | None, to: str | None) -> list[Mail]:
        """Return the e-mails about an order or to an address, or all."""
        return [
            mail.parsed()
            for mail in self._mails.values()
            if (order is None or mail.order_id == order) and (to is None or to in mail.to)
        ]

    def clear(self) -> None:
        """Delete all e-mails and counts."""
        self._mails.clear()
        self.counts.clear()


def _part(message: EmailMessage, kind: str) -> str:
    part = message.get_body((kind,))
    return "" if part is None else str(part.get_content())


class MailServer:
    """The SMTP server and the handlers of its control API."""

    def __init__(self, host: str, port: int) -> None:
        self.mailbox = Mailbox()
        self._where = (host, port)
        self._server: asyncio.Server | None = None

    @asynccontextmanager
    async def serving(self, _app: Starlette) -> AsyncIterator[None]:
        """Run the SMTP server during the lifespan of the control API."""
        await self._listen()
        yield
        self._shut()

    async def _listen(self) -> None:
        if self._server is None:
            loop = asyncio.get_running_loop()
            self._server = await loop.create_server(
                lambda: SMTP(self.mailbox, hostname="mail.example", enable_SMTPUTF8=True), *self._where
            )

    def _shut(self) -> None:
        """Stop listening; open connections may finish."""
        if self._server is not None:
            self._server.close()
            self._server = None

    async def mails(self, request: Request) -> Response:
        """Return e-mails."""
        mails = self.mailbox.find(request.query_params.get("order"), request.query_params.get("to"))
        return Response(msgspec.json.encode(mails), media_type="application/json")

    async def forget(self, _request: Request) -> Response:
        """Delete all e-mails."""
        self.mailbox.clear()
        return Response(status_code=HTTPStatus.NO_CONTENT)

    async def state(self, _request: Request) -> Response:
        """Return counts and fault."""
        names = ("received", "copies", "temporary", "permanent")
        return JSONResponse(
            {**msgspec.to_builtins(self.mailbox.fault), **{name: self.mailbox.counts[name] for name in names}}
        )

    async def set_fault(self, request: Request) -> Response:
        """Set the fault."""
        try:
            self.mailbox.fault = msgspec.json.decode(await request.body(), type=Fault)
        except msgspec.MsgspecError as error:
            return JSONResponse({"detail": str(error)}, HTTPStatus.UNPROCESSABLE_ENTITY)
        if self.mailbox.fault.fault == "down":
            self._shut()
        else:
            await self._listen()
        return await self.state(request)


def create(host: str, port: int) -> Starlette:
    """Create the ASGI application of the control API, which runs the SMTP server on `port`."""
    server = MailServer(host, port)
    return Starlette(
        routes=[
            Route("/mails", server.mails, methods=["GET"]),
            Route("/mails", server.forget, methods=["DELETE"]),
            Route("/control", server.state, methods=["GET"]),
            Route("/control", server.set_fault, methods=["PUT"]),
        ],
        lifespan=server.serving,
    )


def main() -> None:
    """Serve until stopped."""
    parser = argparse.ArgumentParser(description="Simulated mail server.")
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=8102, help="SMTP")
    parser.add_argument("--control-port", type=int, default=8103, help="HTTP")
    arguments = parser.parse_args()
    app = create(arguments.host, arguments.port)
    uvicorn.run(app, host=arguments.host, port=arguments.control_port, access_log=False, log_level="warning")


if __name__ == "__main__":
    main()
