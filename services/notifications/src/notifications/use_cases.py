"""What the API asks for, each as one unit of work."""

from __future__ import annotations

from notifications.domain import Email
from tidings import StateContext


class UnknownEmail(LookupError):
    """Nobody has asked for an e-mail of this id."""


async def read_email(email_id: str, context: StateContext) -> Email:
    """Look at one e-mail.

    Raises:
        UnknownEmail: There is none.

    """
    email = await context.load(Email, email_id)
    if email is None:
        raise UnknownEmail(f"nobody has asked for e-mail {email_id}, or the command is still on its way")
    return email
