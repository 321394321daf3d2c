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


@event("kitchen.ovenChecked")
class Checked(Event):
    at: datetime
    text: str = ""


@event("kitchen.ovenNoted")
class Noted(pydantic.BaseModel):
    at: datetime


@pytest.mark.parametrize("kind", [Checked, Noted])
@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("2016-12-31T23:59:60Z", "2016-12-31T23:59:59.999999+00:00"),
        ("2017-01-01T05:29:60.25+05:30", "2016-12-31T23:59:59.999999+00:00"),
        ("2016-12-31t18:59:60-05:00", "2016-12-31T23:59:59.999999+00:00"),
        ("9999-12-31T23:59:59.9999999Z", "9999-12-31T23:59:59.999999+00:00"),
        (f"2026-01-01T00:00:00.{'1' * 30}z", "2026-01-01T00:00:00.111111+00:00"),
    ],
)
def test_data_may_hold_every_form_of_a_time_that_the_envelope_may(kind: type[Any], text: str, expected: str) -> None:
    assert decode(message_type(kind), 1, msgspec.json.encode({"at": text})).at.isoformat() == expected


def test_a_leap_second_that_is_a_text_stays_as_it_is() -> None:
    result = decode(message_type(Checked), 1, msgspec.json.encode({"at": ZONED, "text": "2016-12-31T23:59:60Z"}))
    assert result.text == "2016-12-31T23:59:60Z"


@pytest.mark.parametrize("kind", [Checked, Noted])
@pytest.mark.parametrize(
    "text",
    [
        "2026-06-30T12:00:60Z", "2016-12-31T23:59:61Z", "2026-01-01T24:00:00Z", "0000-01-01T00:00:00Z",
        "0001-01-01T00:00:00+01:00", "9999-12-31T23:59:59-01:00", "9999-12-31T23:59:60Z",
    ],
)  # fmt: skip
def test_a_time_that_does_not_exist_or_that_utc_cannot_express_is_malformed(kind: type[Any], text: str) -> None:
    with pytest.raises(MalformedEvent, match=r"kitchen\.oven"):
        decode(message_type(kind), 1, msgspec.json.encode({"at": text}))


@pytest.mark.parametrize("kind", [Checked, Noted])
@pytest.mark.parametrize("escaped", ["2", "-", "T", "0"])
def test_a_time_without_a_zone_is_malformed_however_its_characters_are_written(kind: type[Any], escaped: str) -> None:
    text = "2026-11-28T10:00:00".replace(escaped, f"\\u{ord(escaped):04x}")
    with pytest.raises(MalformedEvent, match=r"at has no time zone"):
        decode(message_type(kind), 1, f'{{"at":"{text}"}}'.encode())


@event("kitchen.partsListed")
class Listed(Event):
    parts: frozenset[Any]


@event("kitchen.priceSet")
class Priced(Event):
    cents: int

    def __post_init__(self) -> None:
        {1: "a"}[100 // self.cents]


@pytest.mark.parametrize(
    ("kind", "body"),
    [
        (Listed, b'{"parts":[{}]}'),
        (Listed, b'{"parts":[[1]]}'),
        (Priced, b'{"cents":0}'),
        (Priced, b'{"cents":2}'),
    ],
)
def test_data_that_a_class_refuses_in_any_way_is_malformed(kind: type[Any], body: bytes) -> None:
    with pytest.raises(MalformedEvent):
        decode(message_type(kind), 1, body)
