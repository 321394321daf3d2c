"""The metadata of an event (metadata-data over CloudEvents 1.0) and its encoding.

The data stays raw bytes here: it is decoded only once the metadata has said into what.

`decode` is the one place where bytes from outside become an event. What it returns is complete and bounded:

- CloudEvents 1.0 in structured JSON, in UTF-8. `null` is the same as absent, and so is an empty string. Integers and
  booleans are read as their CloudEvents string form. Attributes that the kit does not know are not looked at.
- `data_base64` is decoded where the content is JSON; otherwise it stays, and `data` is empty.
- `time` is RFC 3339 with a zone, in any of its forms. It is kept in a form that `datetime.fromisoformat` reads.
- Sizes are bounded by the constants below.
- Of a repeated key the last one counts, as for the sidecar.

Everything else is malformed.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import re
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from typing import Annotated, TypeVar

import msgspec
import uuid_utils

from tidings.errors import MalformedEvent
from tidings.messages.keys import escape

CONTENT_TYPE = "application/cloudevents+json"
DAPR_OUTBOX = "outbox-"
"""How the id of every event begins that Dapr's own outbox sends."""
MAX_EVENT = 4 * 1024 * 1024
"""The largest event that is read, in bytes: daprd's own default limit."""
MAX_ATTRIBUTE = 16_384
"""The longest attribute, in characters."""
MAX_VERSION = 9999
MAX_DEPTH = 128
"""How deep arrays and objects may be nested, the envelope included."""
MALFORMED = "tidings.malformedEvent"
"""The type of a dead letter of an event whose own type could not be read."""
_NOTHING = msgspec.Raw()
T = TypeVar("T")


class Failure(msgspec.Struct, frozen=True, kw_only=True):
    """Why and where an event was given up, carried by a dead letter as CloudEvents extension attributes.

    `originalid` is the id of the event that failed: the dead letter has one of its own. `failureshortened` is the size
    of the event in bytes where it was too large to be dead-lettered whole.
    """

    originalid: str = ""

    failurereason: str = ""
    failureclass: str = ""
    failureattempts: str = ""
    failuresubscription: str = ""
    failuretopic: str = ""
    failurefirst: str = ""
    failurelast: str = ""
    failureshortened: str = ""


class Envelope(Failure, frozen=True, kw_only=True, omit_defaults=True):
    """The attributes of one event. All are strings, as CloudEvents has them; absent ones are empty.

    `id` is given once, when the fact is recorded, and is the same in every version that the fact is published in,
    in every retry and replay. `replayto` names the one subscription that a replayed event is for; `*` is whichever
    subscription of the app reads its type. `replayid` is the replay that sent it. `eventid` is the id of an event that
    Dapr's own outbox has sent, which gives each an id of its own.
    """

    id: str = ""
    source: str = ""
    type: str = ""
    specversion: str = ""
    version: str = ""
    subject: str = ""
    time: str = ""
    datacontenttype: str = ""
    correlationid: str = ""
    causationid: str = ""
    traceparent: str = ""
    tracestate: str = ""
    baggage: str = ""
    replayto: str = ""
    replayid: str = ""
    eventid: str = ""
    pubsubname: str = ""
    topic: str = ""
    data_base64: str = ""
    data: msgspec.Raw = _NOTHING

    @property
    def identity(self) -> str:
        """Source and id, the identity of an event, as one string: a valid part of a state-store key."""
        return _identity(self.source, self.id)

    @property
    def label(self) -> str:
        """The type and version as people write them, such as `orders.orderConfirmed.v2`."""
        return f"{self.type}.v{self.version}"

    def encode(self) -> bytes:
        """As structured CloudEvents JSON."""
        return _encoder.encode(self)


@dataclass(frozen=True, slots=True)
class Received:
    """An event whole, for a handler that takes any: its metadata, and the body as it was delivered, to the byte.

    `topic` is the one that the subscription reads; the attribute of that name is where the event was published first.
    """

    envelope: Envelope
    body: bytes
    topic: str


_decoder = msgspec.json.Decoder(Envelope)
_fields = msgspec.json.Decoder(dict[str, msgspec.Raw])
_encoder = msgspec.json.Encoder()
_ATTRIBUTES = tuple(name for name in Envelope.__struct_fields__ if name != "data")
_REQUIRED = ("id", "source", "type", "specversion")
# The reason of a dead letter is for people: a control character in it does not make the letter unreadable.
_PLAIN = tuple(name for name in _ATTRIBUTES if name not in Failure.__struct_fields__)
# What the CloudEvents type String excludes.
_CONTROL = re.compile("[\x00-\x1f\x7f-\x9f\ud800-\udfff\ufdd0-\ufdef\ufffe\uffff]")
_NOT_ODD = bytes(set(range(256)) - set(b"{[\\\x7f"))
_BRACKETS = bytes.maketrans(b"{}", b"[]")
_NO_STRUCTURE = bytes(set(range(256)) - set(b'{}[]"'))
_INTEGER = re.compile(rb"-?(?:0|[1-9][0-9]{0,9})")
_VERSION = re.compile("[1-9][0-9]{0,3}")
_JSON_TYPE = re.compile(r"[^/;]+/(?:json|[^;]*\+json)\s*(?:;.*)?", re.IGNORECASE | re.DOTALL)
UNREADABLE = (msgspec.MsgspecError, UnicodeDecodeError, RecursionError)
"""What msgspec raises of bytes that are not the JSON it is to read."""
_DEEPEST = 12_000  # levels that daprd can deliver: Go reads no JSON that is nested deeper than 10,000


@lru_cache(maxsize=512)
def _identity(source: str, identity: str) -> str:
    return f"{escape(source)}/{escape(identity)}"


def decode(body: bytes) -> Envelope:
    """Read a structured CloudEvent; its data is checked for its bounds only.

    Raises:
        MalformedEvent: It is not a CloudEvents 1.0 event in JSON, or is outside of the bounds of this module. For no
            bytes anything else is raised.

    """
    ascii_only, odd = _check_whole(body)
    try:
        envelope = _decoder.decode(body)
    except msgspec.ValidationError:  # an attribute that is no string: unusual, and mostly allowed
        envelope = _read_any(body)
    except UNREADABLE as error:
        raise _malformed(str(error)) from error
    if not (envelope.id and envelope.source and envelope.type and envelope.specversion):
        raise _malformed(f"{', '.join(name for name in _REQUIRED if not getattr(envelope, name))} missing")
    if envelope.specversion != "1.0":
        raise MalformedEvent(f"CloudEvents {_shown(envelope.specversion)} is not understood, 1.0 is")
    if len(body) > MAX_ATTRIBUTE or not ascii_only or b"\\" in odd or b"\x7f" in odd:
        check_texts(envelope)
    if envelope.version:
        _version(envelope.version)
    return _normalise(envelope)


def _check_whole(body: bytes) -> tuple[bool, bytes]:
    """Check size, encoding and nesting; return whether all of it is ASCII, and its odd bytes."""
    if len(body) > MAX_EVENT:
        raise _malformed(f"{len(body)} bytes, {MAX_EVENT} is the limit")
    ascii_only = body.isascii()
    if not ascii_only:
        try:
            body.decode()
        except UnicodeDecodeError as error:
            raise _malformed(f"not UTF-8: {error.reason} at byte {error.start}") from error
    return ascii_only, _check_depth(body)


def _check_depth(body: bytes) -> bytes:
    """Check the nesting; return the opening brackets, backslashes and DEL characters, found in one cheap pass."""
    odd = body.translate(None, _NOT_ODD)
    if len(odd) > MAX_DEPTH and _deeper(body):
        raise _malformed(f"nested deeper than {MAX_DEPTH} levels")
    return odd


def _deeper(body: bytes) -> bool:
    """Return whether JSON is nested deeper than allowed, without recursion: strip strings, then innermost pairs."""
    if b"\\" in body:
        body = body.replace(b"\\\\", b"").replace(b'\\"', b"")
    quoted = body.translate(_BRACKETS, delete=_NO_STRUCTURE).replace(b'""', b"")
    brackets = b"".join(quoted.split(b'"')[::2])
    for _ in range(MAX_DEPTH):
        inner = brackets.replace(b"[]", b"")
        if len(inner) == len(brackets):
            return len(brackets) > MAX_DEPTH  # or unbalanced, and then malformed in any case
        brackets = inner
    return bool(brackets)


def check_texts(envelope: Envelope) -> None:
    """Check the length and the characters of an event's attributes.

    Raises:
        MalformedEvent: One is too long, or holds a character that CloudEvents does not allow.

    """
    for name in _ATTRIBUTES:
        if len(getattr(envelope, name)) > MAX_ATTRIBUTE and name != "data_base64":
            raise _malformed(f"{name} is longer than {MAX_ATTRIBUTE} characters")
    for name in _PLAIN:
        if found := _CONTROL.search(getattr(envelope, name)):
            raise _malformed(f"{name} has the character U+{ord(found[0]):04X}, which CloudEvents does not allow")


@lru_cache(maxsize=256)
def _version(text: str) -> str:
    if not _VERSION.fullmatch(text):
        raise _malformed(f"version must be 1 to {MAX_VERSION}, not {_shown(text)}")
    return text


def _normalise(envelope: Envelope) -> Envelope:
    changes: dict[str, object] = {}
    if envelope.time and (time := _time(envelope.time)) != envelope.time:
        changes["time"] = time
    if envelope.data_base64:
        changes |= _binary(envelope)
    if envelope.eventid and envelope.id.startswith(DAPR_OUTBOX):
        changes |= {"id": envelope.eventid, "eventid": ""}
    return msgspec.structs.replace(envelope, **changes) if changes else envelope


def _read_any(body: bytes) -> Envelope:
    """Read an envelope whose attributes may have any of CloudEvents' types, or be null."""
    try:
        fields = _fields.decode(body)
    except UNREADABLE as error:
        raise _malformed(str(error)) from error
    attributes = {name: _text(name, bytes(fields[name])) for name in _ATTRIBUTES if name in fields}
    return Envelope(**attributes, data=fields.get("data", _NOTHING))


def _text(name: str, raw: bytes) -> str:
    """Return an attribute in its CloudEvents string form; null is empty."""
    if raw.startswith(b'"'):
        return msgspec.json.decode(raw, type=str)
    if raw in (b"true", b"false"):
        return raw.decode()
    if raw == b"null":
        return ""
    if _INTEGER.fullmatch(raw) and -(2**31) <= (number := int(raw)) < 2**31:
        return str(number)
    raise _malformed(
        f"{name} must be a string, a 32-bit integer, a boolean or null, not {_shown(raw.decode(errors='replace'))}"
    )


def _binary(envelope: Envelope) -> dict[str, object]:
    """Decode `data_base64`; JSON becomes the event's data, other content stays as it is."""
    if envelope.data not in (_NOTHING, msgspec.Raw(b"null")):
        raise _malformed("it has both data and data_base64")
    try:
        data = base64.b64decode(envelope.data_base64, validate=True)
    except (binascii.Error, ValueError) as error:
        raise _malformed(f"data_base64 is not base64: {error}") from error
    if envelope.datacontenttype and not _JSON_TYPE.fullmatch(envelope.datacontenttype):
        return {"data": _NOTHING}
    try:
        data.decode()
        _check_depth(b"[%b]" % data)  # as deep as in an event that carries it as it is
        return {"data": msgspec.json.decode(data, type=msgspec.Raw), "data_base64": ""}
    except UNREADABLE as error:
        raise _malformed(f"data_base64 holds no JSON: {error}") from error


_aware = msgspec.json.Decoder(Annotated[datetime, msgspec.Meta(tz=True)])
_RFC3339 = re.compile(
    r"([0-9]{4}-[0-9]{2}-[0-9]{2})[Tt ]([0-9]{2}:[0-9]{2}):([0-9]{2})(?:\.([0-9]+))?([Zz]|[+-][0-9]{2}:[0-9]{2})"
)
_LONGEST_TIME = len("2026-01-01T00:00:00.000000Z")


def _time(text: str) -> str:
    """Return a time as it is where Python reads it, else in UTC.

    A leap second becomes the last microsecond of its minute, and digits beyond the microsecond are cut.
    """
    if text[-1] == "Z" and text[10:11] == "T" and len(text) <= _LONGEST_TIME:
        try:
            _aware.decode(f'"{text}"'.encode())
        except msgspec.MsgspecError:
            pass
        else:
            return text
    found = _RFC3339.fullmatch(text)
    if not found:
        raise _malformed(f"time must be RFC 3339 with a zone, such as 2026-01-31T09:30:00Z, not {_shown(text)}")
    date, minute, second, fraction, zone = found.groups(default="0")
    leap = second == "60"
    plain = f"{date}T{minute}:{'59' if leap else second}.{'999999' if leap else fraction[:6]}{zone.upper()}"
    try:
        moment = _aware.decode(f'"{plain}"'.encode()).astimezone(UTC)
        if leap and (moment + timedelta(microseconds=1)).time() != datetime.min.time():
            raise _malformed(f"time {_shown(text)} is no leap second: those end a day in UTC")
    except (msgspec.MsgspecError, OverflowError) as error:
        raise _malformed(f"time {_shown(text)} does not exist, or is outside of the years 1 to 9999 in UTC") from error
    return timestamp(moment)


def _malformed(reason: str) -> MalformedEvent:
    return MalformedEvent(f"no CloudEvents envelope: {reason}")


def _shown(text: str) -> str:
    """Return a value for a message: quoted, and not endless."""
    return repr(text if len(text) <= 60 else f"{text[:60]}…")  # noqa: PLR2004 - for people


def read_deep(decoder: msgspec.json.Decoder[T], body: bytes) -> T:
    """Decode bytes that may hold something nested as deep as a sidecar delivers it.

    Raises one of `UNREADABLE`.
    """
    with as_deep_as_daprd():
        return decoder.decode(body)


@contextmanager
def as_deep_as_daprd() -> Iterator[None]:
    """Let C code that reads JSON recurse as deep as Go's decoder does."""
    limit = sys.getrecursionlimit()
    sys.setrecursionlimit(max(limit, _DEEPEST))
    try:
        yield
    finally:
        sys.setrecursionlimit(limit)


def salvage(body: bytes, reason: str) -> Envelope:
    """Read what can be read of an event that `decode` refuses with that reason, for who keeps it all the same.

    What is read is bounded, and without control characters. One without an id is given one made from its content, so
    that it is the same at each delivery.
    """
    known = {name: text for name, text in _salvaged(body).items() if text}
    identity = known.get("id") or f"malformed-{hashlib.sha256(body).hexdigest()[:32]}"
    failure = {"failurereason": reason, "failureclass": MalformedEvent.__name__}
    return msgspec.convert({**failure, **known, "id": identity}, Envelope)


def _salvaged(body: bytes) -> dict[str, str]:
    try:
        fields = read_deep(_fields, body)
    except UNREADABLE:
        return {}
    found: dict[str, str] = {}
    for name in (each for each in _ATTRIBUTES if each in fields and each != "data_base64"):
        try:
            text = _CONTROL.sub("\ufffd", _text(name, bytes(fields[name])))[:MAX_ATTRIBUTE]
            found[name] = _SALVAGED.get(name, str)(text) if text else ""
        except (MalformedEvent, *UNREADABLE):
            continue
    return found


_SALVAGED: dict[str, Callable[[str], str]] = {"time": _time, "version": _version}


def new_id() -> str:
    """Make a new event id: a UUIDv7, so that ids sort by the time they were given."""
    return str(uuid_utils.uuid7())


def timestamp(moment: datetime | None = None) -> str:
    """Write a moment, by default now, as RFC 3339 in UTC."""
    return (moment or datetime.now(UTC)).isoformat().replace("+00:00", "Z")
