"""Port to the mail server, in notifications' terms. The adapter speaks its protocol."""

from typing import Protocol

from notifications.domain.email import Email


class NotNow(Exception):
    """The e-mail was not accepted for a reason that does not concern it, or the outcome is unknown. Retry."""


class Refused(Exception):
    """The e-mail is refused for good, because of its recipient or content. Do not retry."""


class Mailer(Protocol):
    """Sender of e-mails."""

    async def send(self, email: Email) -> None:
        """Send an e-mail. Repeated attempts carry the same `Message-ID`.

        Raises:
            NotNow: Retry later.
            Refused: Do not retry.

        """
        ...
