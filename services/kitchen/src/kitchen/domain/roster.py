"""Who is at work."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from typing import Literal

import msgspec

Role = Literal["cook", "manager"]


class NotClockedIn(Exception):
    """Somebody cannot leave who is not there."""


class Arrival(msgspec.Struct, frozen=True):
    """Somebody who comes to work."""

    member_id: str
    name: str
    role: Role


class Member(msgspec.Struct, frozen=True):
    """Somebody at work, since when."""

    name: str
    role: Role
    since: datetime


class Roster(msgspec.Struct):
    """Everybody who is clocked in. Whoever it is: somebody there means that the kitchen takes orders."""

    members: dict[str, Member] = {}

    @classmethod
    def of(cls, crew: Iterable[Arrival], now: datetime) -> Roster:
        """Open a kitchen with its crew."""
        return cls({each.member_id: Member(each.name, each.role, now) for each in crew})

    @property
    def staffed(self) -> bool:
        """Whether anybody is there."""
        return bool(self.members)

    def clock_in(self, arrival: Arrival, now: datetime) -> bool:
        """Somebody comes; False where they are there already."""
        if arrival.member_id in self.members:
            return False
        self.members[arrival.member_id] = Member(arrival.name, arrival.role, now)
        return True

    def clock_out(self, member_id: str) -> None:
        """Somebody goes.

        Raises:
            NotClockedIn: They are not there.

        """
        if self.members.pop(member_id, None) is None:
            raise NotClockedIn(f"{member_id} is not clocked in")
