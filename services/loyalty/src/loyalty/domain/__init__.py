"""Domain rules of loyalty, and the port to the provider of the points. Pure: no I/O; `now` is a parameter."""

from loyalty.domain.points import CENTS_PER_POINT, AlreadySettled, Award, Member, Reason, Receipt, Status, points_for
from loyalty.domain.provider import Health, Provider, Refused, State, Unavailable

__all__ = [
    "CENTS_PER_POINT",
    "AlreadySettled",
    "Award",
    "Health",
    "Member",
    "Provider",
    "Reason",
    "Receipt",
    "Refused",
    "State",
    "Status",
    "Unavailable",
    "points_for",
]
