"""Use cases of the API, one unit of work each."""

from notifications.domain import Email
from tidings import StateContext


async def read_email(email_id: str, context: StateContext) -> Email:
    """Return an e-mail.

    Raises:
        NotFound: No e-mail with this id was requested.

    """
    missing = f"e-mail {email_id} was never requested, or its command has not arrived yet"
    return await context.require(Email, email_id, missing)
