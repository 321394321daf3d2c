"""Which ingredients there are."""

from __future__ import annotations

from datetime import datetime, timedelta

import msgspec

_TICK = timedelta(microseconds=1)


class Supply(msgspec.Struct, frozen=True):
    """What was last known of an ingredient, and since when."""

    available: bool
    since: datetime


class Pantry(msgspec.Struct):
    """Every ingredient that has ever run out; all others are there."""

    supplies: dict[str, Supply] = {}

    def ran_out(self, ingredient: str, now: datetime) -> datetime | None:
        """Note that nothing is left; since when, or None where that was known."""
        return self._change(ingredient, now, available=False)

    def delivered(self, ingredient: str, now: datetime) -> datetime | None:
        """Note that it is there again; since when, or None where it never was missing."""
        return self._change(ingredient, now, available=True)

    @property
    def missing(self) -> set[str]:
        """What has run out."""
        return {name for name, supply in self.supplies.items() if not supply.available}

    def _change(self, ingredient: str, now: datetime, *, available: bool) -> datetime | None:
        """Since when it is so: always later than the change before, so that readers can tell which one came last."""
        before = self.supplies.get(ingredient)
        if available == (before is None or before.available):
            return None
        since = now if before is None else max(now, before.since + _TICK)
        self.supplies[ingredient] = Supply(available, since)
        return since
