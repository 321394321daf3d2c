"""Use cases of the API, one unit of work each."""

from loyalty.domain import Member
from tidings import StateContext


async def read_member(customer_id: str, context: StateContext) -> Member:
    """Return a member.

    Raises:
        NotFound: The customer has never completed an order worth a point.

    """
    missing = f"{customer_id} has no points and none pending: no order of this customer is completed"
    return await context.require(Member, customer_id, missing)
