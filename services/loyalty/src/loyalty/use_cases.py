"""What the API asks for, each as one unit of work."""

from __future__ import annotations

from loyalty.domain import Member
from tidings import StateContext


class UnknownMember(LookupError):
    """Nobody of this id has completed an order that is worth a point."""


async def read_member(customer_id: str, context: StateContext) -> Member:
    """Look at one member.

    Raises:
        UnknownMember: There is none.

    """
    member = await context.load(Member, customer_id)
    if member is None:
        raise UnknownMember(f"{customer_id} has no points, and none on their way: no order of theirs is completed")
    return member
