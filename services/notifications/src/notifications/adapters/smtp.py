"""The mail server, over SMTP: its answers in notifications' words."""

from __future__ import annotations

import asyncio
import socket
from email.message import EmailMessage

import aiosmtplib

from notifications.adapters.composing import compose
from notifications.domain import Email
from notifications.mailer import NotNow, Refused
from notifications.settings import NotificationsSettings
from tidings.terminal import printable

LONGEST_REASON = 500
"""Characters of a server's answer that are kept."""
_PERMANENT = 500  # RFC 5321, 4.2.1: 4yz may be tried again, 5yz not


class SmtpMailer:
    """Hands e-mails to a mail server; a `Mailer`.

    Each e-mail has a connection of its own: e-mails come seldom, and servers close idle connections as they like.
    """

    def __init__(self, settings: NotificationsSettings) -> None:
        self._settings = settings

    async def send(self, email: Email) -> None:
        """Hand an e-mail over.

        A refusal is what is said of this e-mail, its recipient or its content. What is said of us (no login, sender
        not allowed, no TLS) would be said of every e-mail: that is for a person to mend, meanwhile they wait.

        Raises:
            NotNow: Not reached, no answer, 4yz, or 5yz about us.
            Refused: 5yz about the e-mail.

        """
        try:
            message = compose(email, self._settings.sender)
        except ValueError as error:  # also what cannot be encoded: it would fail each time
            raise Refused(f"it cannot be written: {_said(str(error))}") from error
        try:
            async with asyncio.timeout(self._settings.deadline):
                await self._hand_over(email, message)
        except aiosmtplib.SMTPRecipientsRefused as error:
            raise _verdict(error.recipients[0]) from error
        except aiosmtplib.SMTPDataError as error:
            raise _verdict(error) from error
        except TimeoutError as error:
            raise NotNow(f"the mail server did not answer within {self._settings.deadline:g} s") from error
        except (aiosmtplib.SMTPException, OSError) as error:
            raise NotNow(f"the mail server: {type(error).__name__}: {_said(str(error))}") from error

    async def _hand_over(self, email: Email, message: EmailMessage) -> None:
        settings = self._settings
        password = settings.smtp_password
        await aiosmtplib.send(
            message,
            recipients=[email.to],
            hostname=settings.smtp_host,
            port=settings.smtp_port,
            username=settings.smtp_username,
            password=password.get_secret_value() if password else None,
            local_hostname=socket.gethostname(),  # by default DNS is asked, each time
            timeout=settings.deadline,
            use_tls=settings.smtp_security == "tls",
            start_tls={"auto": None, "starttls": True}.get(settings.smtp_security, False),
        )


def _said(text: str) -> str:
    """What a server says, of which nobody knows how long it is and what is in it."""
    return printable(text[:LONGEST_REASON])


def _verdict(error: aiosmtplib.SMTPResponseException) -> NotNow | Refused:
    said = f"{error.code} {_said(error.message)}"
    return Refused(said) if error.code >= _PERMANENT else NotNow(f"the mail server: {said}")
