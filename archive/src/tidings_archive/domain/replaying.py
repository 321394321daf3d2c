"""How events are sent again: unchanged, to one consumer only, and no faster than allowed."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from typing import Literal

Ended = Literal["completed", "cancelled", "failed"]
"""The states of a replay that is not running any more."""

TICK = 0.25  # seconds between the steps of a replay
LARGEST_STEP = 500  # events
LOWEST_RATE = 0.001
"""Events a second: one in 17 minutes. A lower rate would never come to an end."""


@dataclass(frozen=True, slots=True)
class Pace:
    """How many events are sent in a step, and how long the next one waits."""

    events: int
    pause: timedelta


def pace(rate: float) -> Pace:
    """Divide a rate, in events a second, into steps."""
    events = min(max(int(rate * TICK), 1), LARGEST_STEP)
    return Pace(events, timedelta(seconds=events / rate))


def replay_topic(consumer: str) -> str:
    """Where an app is sent what it is to have again."""
    return f"replay.{consumer}"
