"""Use cases of the API, one unit of work each."""

from loyalty.domain import Member
from tidings import StateContext


class UnknownMember(LookupError):
    """The customer has never completed an order worth a point."""


async def read_member(customer_id: str, context: StateContext) -> Member:
    """Return a member.

    Raises:
        UnknownMember: The customer has never completed an order worth a point.

    """
    member = await context.load(Member, customer_id)
    if member is None:
        raise UnknownMember(f"{customer_id} has no points and none pending: no order of this customer is completed")
    return member
