"""Staff at work."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from typing import Annotated, Literal

import msgspec

from tidings.marks import PERSONAL, SUBJECT

Role = Literal["cook", "manager"]


class NotClockedIn(Exception):
    """The member of staff is not clocked in."""


class Arrival(msgspec.Struct, frozen=True):
    """A member of staff who clocks in."""

    member_id: str
    name: str
    role: Role


class Member(msgspec.Struct, frozen=True):
    """A member of staff at work."""

    member_id: Annotated[str, SUBJECT]
    name: Annotated[str, PERSONAL]
    role: Role
    since: datetime


class Roster(msgspec.Struct):
    """Staff clocked in. The kitchen accepts orders while anybody is, whatever their roles."""

    members: dict[str, Member] = {}

    @classmethod
    def of(cls, crew: Iterable[Arrival], now: datetime) -> Roster:
        """Create a roster with the opening crew."""
        return cls({arrival.member_id: _member(arrival, now) for arrival in crew})

    @property
    def staffed(self) -> bool:
        return bool(self.members)

    def clock_in(self, arrival: Arrival, now: datetime) -> bool:
        """Add a member; return False if already clocked in."""
        if arrival.member_id in self.members:
            return False
        self.members[arrival.member_id] = _member(arrival, now)
        return True

    def clock_out(self, member_id: str) -> None:
        """Remove a member.

        Raises:
            NotClockedIn: The member is not clocked in.

        """
        if self.members.pop(member_id, None) is None:
            raise NotClockedIn(f"{member_id} is not clocked in")


def _member(arrival: Arrival, now: datetime) -> Member:
    return Member(arrival.member_id, arrival.name, arrival.role, now)
