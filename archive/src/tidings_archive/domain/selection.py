"""Selection of events by type, version, time, correlation id and other attributes."""

import re
from dataclasses import dataclass
from datetime import datetime
from typing import Self

_VERSIONED = re.compile(r"(?P<type>.+)\.v(?P<version>[1-9][0-9]{0,3})")
_NAME = re.compile(r"[a-z][A-Za-z0-9]*(\.[a-z][A-Za-z0-9]*)*")


class SelectionError(Exception):
    """The selection is malformed, or cannot match any event."""


@dataclass(frozen=True, slots=True)
class TypePattern:
    """A type, one version of it, or, with `wildcard`, all types of a domain; an empty domain means all types."""

    name: str
    version: int | None = None
    wildcard: bool = False

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read `orders.orderPlaced`, `orders.orderConfirmed.v2`, `orders.*` or `*`.

        Raises:
            SelectionError: The text has none of these forms.

        """
        if text == "*":
            return cls("", wildcard=True)
        versioned = _VERSIONED.fullmatch(text)
        wildcard = text.endswith(".*")
        pattern = cls(
            versioned["type"] if versioned else text.removesuffix(".*"),
            int(versioned["version"]) if versioned else None,
            wildcard,
        )
        if not _NAME.fullmatch(pattern.name):
            raise SelectionError(f"{text!r} is no type: write orders.orderPlaced, orders.orderConfirmed.v2 or orders.*")
        return pattern

    def matches(self, name: str, version: int) -> bool:
        """Return whether a version of a type matches."""
        if self.wildcard:
            return not self.name or name.startswith(f"{self.name}.")
        return name == self.name and self.version in (None, version)


@dataclass(frozen=True, slots=True)
class Selection:
    """Conditions that an event must meet. Its time is at or after `since` and before `until`."""

    patterns: tuple[TypePattern, ...] = ()
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
