"""Time within one process that no correction of the machine's clock changes."""

from __future__ import annotations

import asyncio
from collections.abc import Callable


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
