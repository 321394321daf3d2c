"""Use cases of the API, one unit of work each."""

from notifications.domain import Email
from tidings import StateContext


class UnknownEmail(LookupError):
    """No e-mail with this id was requested."""


async def read_email(email_id: str, context: StateContext) -> Email:
    """Return an e-mail.

    Raises:
        UnknownEmail: No e-mail with this id was requested.

    """
    email = await context.load(Email, email_id)
    if email is None:
        raise UnknownEmail(f"e-mail {email_id} was never requested, or its command has not arrived yet")
    return email
