"""Pacing of replays."""

from dataclasses import dataclass
from datetime import timedelta
from typing import Literal

FinalState = Literal["completed", "cancelled", "failed"]
"""States of a replay that is no longer running."""

TICK = 0.25  # seconds between the steps of a replay
LARGEST_STEP = 500  # events
LOWEST_RATE = 0.001
"""Events a second: one in 17 minutes. A lower rate would never come to an end."""


@dataclass(frozen=True, slots=True)
class Pace:
    """Number of events in a step, and the pause before the next step."""

    events: int
    pause: timedelta


def pace(rate: float) -> Pace:
    """Divide a rate in events per second into steps."""
    events = min(max(int(rate * TICK), 1), LARGEST_STEP)
    return Pace(events, timedelta(seconds=events / rate))
