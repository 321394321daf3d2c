"""Availability of ingredients."""

from datetime import datetime, timedelta

import msgspec

_TICK = timedelta(microseconds=1)


class Supply(msgspec.Struct, frozen=True):
    """Availability of an ingredient since a time."""

    available: bool
    since: datetime


class Pantry(msgspec.Struct):
    """Ingredients that have ever run out; all others are available."""

    supplies: dict[str, Supply] = {}

    def ran_out(self, ingredient: str, now: datetime) -> datetime | None:
        """Record that an ingredient has run out; return the time of the change, None if it was known."""
        return self._change(ingredient, now, available=False)

    def delivered(self, ingredient: str, now: datetime) -> datetime | None:
        """Record a delivery; return the time of the change, None if the ingredient was available."""
        return self._change(ingredient, now, available=True)

    @property
    def missing(self) -> set[str]:
        return {name for name, supply in self.supplies.items() if not supply.available}

    def _change(self, ingredient: str, now: datetime, *, available: bool) -> datetime | None:
        before = self.supplies.get(ingredient)
        if available == (before is None or before.available):
            return None
        # Consumers order the changes of an ingredient by their times, so each must be later than the one before,
        # even if the clock was set back.
        since = now if before is None else max(now, before.since + _TICK)
        self.supplies[ingredient] = Supply(available, since)
        return since
