"""A time in an event's data has a zone, wherever it is and whatever class the data is decoded into."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any

import msgspec
import pydantic
import pytest

from tidings import Event, event
from tidings.errors import MalformedEvent
from tidings.messages.events import decode, message_type

ZONED, NAIVE = "2026-11-28T10:00:00Z", "2026-11-28T10:00:00"


class Stage(StrEnum):
    """An object with attributes that are no fields: a walk over those would not end."""

    BAKED = "baked"


class Step(msgspec.Struct):
    stage: Stage
    at: datetime


@dataclass
class Leg:
    stage: Stage
    at: datetime


class Note(pydantic.BaseModel):
    stage: Stage
    at: datetime


@event("kitchen.preparationStopped")
class Stopped(Event):
    stage: Stage
    at: datetime
    steps: tuple[Step, ...] = ()
    legs: dict[str, Leg] = msgspec.field(default_factory=dict)


@event("kitchen.noteWritten")
class Written(pydantic.BaseModel):
    note: Note


@pytest.mark.parametrize(
    ("kind", "data", "where"),
    [
        (Stopped, {"stage": "baked", "at": ZONED}, None),
        (Stopped, {"stage": "baked", "at": NAIVE}, r"\$\.at has no time zone"),
        (Stopped, {"stage": "baked", "at": ZONED, "steps": [{"stage": "baked", "at": ZONED}]}, None),
        (Stopped, {"stage": "baked", "at": ZONED, "steps": [{"stage": "baked", "at": NAIVE}]}, r"\$\.steps\[0\]\.at"),
        (Stopped, {"stage": "baked", "at": ZONED, "legs": {"a-1": {"stage": "baked", "at": ZONED}}}, None),
        (Stopped, {"stage": "baked", "at": ZONED, "legs": {"a-1": {"stage": "baked", "at": NAIVE}}}, r"legs\.a-1\.at"),
        (Written, {"note": {"stage": "baked", "at": ZONED}}, None),
        (Written, {"note": {"stage": "baked", "at": NAIVE}}, r"\$\.note\.at has no time zone"),
    ],
)
def test_a_time_without_a_zone_is_refused_with_its_place(kind: type[Any], data: dict[str, Any], where: str | None):
    body = msgspec.json.encode({**data, "day": "2026-11-28"})  # a date makes the reader look at each value
    if where is None:
        assert isinstance(decode(message_type(kind), 1, body), kind)
    else:
        with pytest.raises(MalformedEvent, match=where):
            decode(message_type(kind), 1, body)
