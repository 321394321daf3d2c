"""Whoever carries e-mails, in notifications' own words. Its protocol stays in the adapter."""

from __future__ import annotations

from typing import Protocol

from notifications.domain import Email


class NotNow(Exception):
    """The e-mail was not taken, through no fault of its own, or nobody knows. To be tried again."""


class Refused(Exception):
    """This e-mail will never be taken: there is no such mailbox, or its content is not wanted."""


class Mailer(Protocol):
    """Carries e-mails."""

    async def send(self, email: Email) -> None:
        """Hand an e-mail over; one that is handed over again carries the same `Message-ID`.

        Raises:
            NotNow: To be tried again.
            Refused: Not to be tried again.

        """
        ...
