"""Time within one process that no correction of the machine's clock changes."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from typing import Generic, TypeVar

K = TypeVar("K")


class SteadyClock:
    """Seconds since 1970 as the wall clock has them at the first call, and from then on by the event loop's clock.

    A moment of it means something to this process only: what another one, or a former run, has stored may come from a
    clock that was wrong.

    Args:
        wall: Seconds since 1970.

    """

    def __init__(self, wall: Callable[[], float]) -> None:
        self._wall = wall
        self._offset: float | None = None

    def __call__(self) -> float:
        """Read the clock."""
        now = asyncio.get_running_loop().time()
        if self._offset is None:
            self._offset = self._wall() - now
        return now + self._offset


class Renewals(Generic[K]):
    """Observe by the event loop's clock which leases are not renewed, whatever the clocks of their holders say.

    Args:
        life: Seconds after which a lease that has not changed counts as silent.

    """

    def __init__(self, life: float) -> None:
        self._life = life
        self._since: dict[K, tuple[object, float]] = {}

    def silent(self, leases: Mapping[K, object]) -> set[K]:
        """Note all present leases, and return those that have been the same for longer than their life."""
        now, before = asyncio.get_running_loop().time(), self._since
        unchanged = {key for key, lease in leases.items() if key in before and before[key][0] == lease}
        self._since = {key: before[key] if key in unchanged else (lease, now) for key, lease in leases.items()}
        return {key for key, (_, since) in self._since.items() if now - since > self._life}
