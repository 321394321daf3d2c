"""SMTP adapter for the mail server; translates its replies into notifications' terms."""

import asyncio
import socket
from email.message import EmailMessage

import aiosmtplib

from notifications.adapters.composing import compose
from notifications.domain import Email, NotNow, Refused
from notifications.settings import NotificationsSettings
from tidings.terminal import printable

MAX_REASON = 500
"""Characters kept of a server's reply."""
_PERMANENT = 500  # RFC 5321, 4.2.1: 4yz is transient, 5yz permanent


class SmtpMailer:
    """`Mailer` that hands e-mails to an SMTP server."""

    # Each e-mail gets its own connection: e-mails are rare, and servers close idle connections at will.

    def __init__(self, settings: NotificationsSettings) -> None:
        self._settings = settings

    async def send(self, email: Email) -> None:
        """Hand an e-mail to the server.

        A permanent error counts as a refusal only if it concerns this e-mail: its recipient or content. Errors that
        concern our configuration (login, sender, TLS) would affect every e-mail. An operator has to fix them, and
        until then the e-mails wait.

        Raises:
            NotNow: The server was not reached, did not respond, replied 4yz, or replied 5yz to login or sender.
            Refused: The server replied 5yz to the recipient or the content.

        """
        try:
            message = compose(email, self._settings.sender)
        except ValueError as error:  # includes encoding errors; a retry would fail the same way
            raise Refused(f"the e-mail cannot be composed: {_excerpt(str(error))}") from error
        try:
            async with asyncio.timeout(self._settings.deadline):
                await self._hand_over(email, message)
        except aiosmtplib.SMTPRecipientsRefused as error:
            raise _classify(error.recipients[0]) from error
        except aiosmtplib.SMTPDataError as error:
            raise _classify(error) from error
        except TimeoutError as error:
            raise NotNow(f"the mail server did not answer within {self._settings.deadline:g} s") from error
        except (aiosmtplib.SMTPException, OSError) as error:
            raise NotNow(f"the mail server: {type(error).__name__}: {_excerpt(str(error))}") from error

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
            local_hostname=socket.gethostname(),  # the default does a DNS lookup per e-mail
            timeout=settings.deadline,
            use_tls=settings.smtp_security == "tls",
            start_tls={"auto": None, "starttls": True}.get(settings.smtp_security, False),
        )


def _excerpt(text: str) -> str:
    """Return a bounded, printable part of a server's reply, which may contain anything."""
    return printable(text[:MAX_REASON])


def _classify(error: aiosmtplib.SMTPResponseException) -> NotNow | Refused:
    reply = f"{error.code} {_excerpt(error.message)}"
    return Refused(reply) if error.code >= _PERMANENT else NotNow(f"the mail server: {reply}")
