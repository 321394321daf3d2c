"""How events are sent again: unchanged, to one consumer only, and no faster than allowed."""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import timedelta
from typing import Literal

import msgspec

State = Literal["running", "completed", "cancelled"]

TICK = 0.25  # seconds between the steps of a replay
LARGEST_STEP = 500  # events
_NOT_THE_EVENTS = ("pubsubname", "topic", "traceid", "expiration", "replayto")


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


def addressed(body: str, subscription: str) -> bytes:
    """Address an archived event to one subscription; it is otherwise what it was, its data to the byte.

    What the sidecar added on the way and what a dead letter says of its failure are left out.

    Raises:
        ValueError: The body is no JSON object.

    """
    try:
        attributes = msgspec.json.decode(body, type=dict[str, msgspec.Raw])
    except msgspec.MsgspecError as error:
        raise ValueError(f"no event that could be sent: {error}") from error
    kept = {
        name: value
        for name, value in attributes.items()
        if name not in _NOT_THE_EVENTS and not name.startswith("failure")
    }
    return msgspec.json.encode({**kept, "replayto": msgspec.Raw(json.dumps(subscription).encode())})
