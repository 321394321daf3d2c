"""Which events are meant: by type, version, time, correlation id, and what else an envelope says."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import datetime
from typing import Self

_VERSIONED = re.compile(r"(?P<type>.+)\.v(?P<version>[1-9][0-9]{0,3})")
_NAME = re.compile(r"[a-z][A-Za-z0-9]*(\.[a-z][A-Za-z0-9]*)*")


class SelectionError(Exception):
    """What was asked for cannot name any event."""


@dataclass(frozen=True, slots=True)
class Kind:
    """A type, one version of it, or with `below` every type of a domain; `below` and no name is everything."""

    name: str
    version: int | None = None
    below: bool = False

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read `orders.orderPlaced`, `orders.orderConfirmed.v2`, `orders.*` or `*`.

        Raises:
            SelectionError: It is none of these.

        """
        if text == "*":
            return cls("", below=True)
        versioned = _VERSIONED.fullmatch(text)
        below = text.endswith(".*")
        found = cls(
            versioned["type"] if versioned else text.removesuffix(".*"),
            int(versioned["version"]) if versioned else None,
            below,
        )
        if not _NAME.fullmatch(found.name):
            raise SelectionError(f"{text!r} is no type: write orders.orderPlaced, orders.orderConfirmed.v2 or orders.*")
        return found


@dataclass(frozen=True, slots=True)
class Selection:
    """What must hold of an event. Times are when it happened: from `since` on, before `until`."""

    kinds: tuple[Kind, ...] = ()
    since: datetime | None = None
    until: datetime | None = None
    correlation_id: str | None = None
    subject: str | None = None
    source: str | None = None
    topic: str | None = None
    text: str | None = None
    ids: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if self.since and self.until and self.until <= self.since:
            raise SelectionError(f"nothing happened from {self.since.isoformat()} until {self.until.isoformat()}")
