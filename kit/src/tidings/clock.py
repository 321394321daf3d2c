"""Time within one process, unaffected by changes to the system clock."""

import asyncio
from collections.abc import Callable, Mapping
from typing import Generic, TypeVar

K = TypeVar("K")


class SteadyClock:
    """Wall-clock time at the first call, advanced by the event loop's monotonic clock afterwards.

    Its values are comparable within one process only: timestamps stored by other processes or earlier runs may come
    from a wrong clock.

    Args:
        wall: Returns seconds since the Unix epoch.

    """

    def __init__(self, wall: Callable[[], float]) -> None:
        self._wall = wall
        self._offset: float | None = None

    def __call__(self) -> float:
        """Return the seconds since the Unix epoch."""
        now = asyncio.get_running_loop().time()
        if self._offset is None:
            self._offset = self._wall() - now
        return now + self._offset


class Renewals(Generic[K]):
    """Detect expired leases by observing them on the local monotonic clock, independent of the holders' clocks.

    Args:
        life: Seconds without change after which a lease counts as expired.

    """

    def __init__(self, life: float) -> None:
        self._life = life
        self._since: dict[K, tuple[object, float]] = {}

    def silent(self, leases: Mapping[K, object]) -> set[K]:
        """Record the current leases and return the keys of those unchanged for longer than their life."""
        now, before = asyncio.get_running_loop().time(), self._since
        unchanged = {key for key, lease in leases.items() if key in before and before[key][0] == lease}
        self._since = {key: before[key] if key in unchanged else (lease, now) for key, lease in leases.items()}
        return {key for key, (_, since) in self._since.items() if now - since > self._life}
