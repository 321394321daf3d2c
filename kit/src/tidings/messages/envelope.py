"""The metadata of an event (CloudEvents 1.0) and its encoding.

The data stays raw bytes: it is decoded once the metadata has determined its type.

`decode` is the only place where external bytes become an event. Its result is complete and bounded:

- CloudEvents 1.0 in structured JSON and UTF-8. `null` and empty strings count as absent. Integers and booleans are read
  in their CloudEvents string form. Unknown attributes are ignored.
- `data_base64` is decoded if the content is JSON; otherwise it is kept, and `data` is empty.
- `time` is RFC 3339 with a zone, in any of its forms. It is normalised to a form that `datetime.fromisoformat` reads.
- Sizes are limited by the constants below.
- The last value of a repeated key counts, as for the sidecar.

Everything else is malformed.
"""

import base64
import binascii
import codecs
import hashlib
import re
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from itertools import accumulate
from typing import Annotated, TypeVar

import msgspec
import uuid_utils

from tidings.errors import MalformedEvent
from tidings.messages.keys import escape

CONTENT_TYPE = "application/cloudevents+json"
BINARY = "application/octet-stream"
"""Content type of a dead letter whose `data_base64` holds an unreadable event as it was delivered."""
DAPR_OUTBOX = "outbox-"
"""Prefix of the ids of all events that Dapr's own outbox sends."""
MAX_EVENT = 4 * 1024 * 1024
"""Maximum size of an event in bytes: daprd's own default limit."""
MAX_ATTRIBUTE = 16_384
"""Maximum length of an attribute in characters."""
MAX_VERSION = 9999
MAX_DEPTH = 128
"""Maximum nesting depth of arrays and objects, including the envelope."""
MALFORMED = "tidings.malformedEvent"
"""Type of the dead letter of an event whose own type could not be read."""
_NOTHING = msgspec.Raw()
T = TypeVar("T")


class Failure(msgspec.Struct, frozen=True, kw_only=True):
    """Reason and origin of a dead letter, as CloudEvents extension attributes.

    `originalid` is the id of the failed event; the dead letter has its own id. `failureshortened` is the size of the
    event in bytes if it was too large to be dead-lettered completely.
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
    """The attributes of an event. All are strings, as in CloudEvents; absent ones are empty.

    `id` is assigned once, when the fact is recorded. It is the same in every version that the fact is published in, and
    in every retry and replay. `replayto` names the subscription that a replayed event is for; `*` means any
    subscription of the app that reads its type. `replayid` identifies the replay, and `replaytopic` is the topic that
    the event was published on before. `eventid` is the event's id if Dapr's
    own outbox, which assigns ids of its own, has sent it. `datasubject` is the person whose key has encrypted the
    personal fields.
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
    replaytopic: str = ""
    eventid: str = ""
    datasubject: str = ""
    pubsubname: str = ""
    topic: str = ""
    data_base64: str = ""
    data: msgspec.Raw = _NOTHING

    @property
    def identity(self) -> str:
        """Source and id as one string, which is a valid part of a state-store key."""
        return _identity(self.source, self.id)

    @property
    def origin(self) -> str:
        """Topic that the event was published on first, also of a replayed event or a dead letter; empty if unknown."""
        return self.replaytopic or self.failuretopic or self.topic

    @property
    def label(self) -> str:
        """Type and version, such as `orders.orderConfirmed.v2`."""
        return f"{self.type}.v{self.version}"

    def age(self, now: float) -> float | None:
        """Return the seconds from the event's time to `now`, in seconds since the epoch; None without a valid time."""
        try:
            return now - datetime.fromisoformat(self.time).timestamp()
        except ValueError:
            return None

    def encode(self) -> bytes:
        """Encode as structured CloudEvents JSON."""
        return _encoder.encode(self)


@dataclass(frozen=True, slots=True)
class Received:
    """An unparsed event for a handler of any type: its metadata and the original body.

    `topic` is the topic of the subscription; the attribute of that name is where the event was published first.
    """

    envelope: Envelope
    body: bytes
    topic: str


_decoder = msgspec.json.Decoder(Envelope)
_fields = msgspec.json.Decoder(dict[str, msgspec.Raw])
_encoder = msgspec.json.Encoder()
_ATTRIBUTES = tuple(name for name in Envelope.__struct_fields__ if name != "data")
_REQUIRED = ("id", "source", "type", "specversion")
# Attributes that must not hold control characters; the reason of a dead letter may.
_PLAIN = tuple(name for name in _ATTRIBUTES if name not in Failure.__struct_fields__)
# Characters excluded from the CloudEvents type String: controls, surrogates, and the noncharacters of all planes.
_NONCHARACTERS = "".join(f"{chr(plane | 0xFFFE)}{chr(plane | 0xFFFF)}" for plane in range(0, 0x110000, 0x10000))
_CONTROL = re.compile(f"[\x00-\x1f\x7f-\x9f\ud800-\udfff\ufdd0-\ufdef{_NONCHARACTERS}]")
_NOT_ODD = bytes(set(range(256)) - set(b"{[\\\x7f"))
_STEPS = bytes.maketrans(b"{[}]", b"\x01\x01\xff\xff")  # as signed bytes: one level deeper or higher
_NO_STRUCTURE = bytes(set(range(256)) - set(b'{}[]"'))
_INTEGER = re.compile(rb"-?(?:0|[1-9][0-9]{0,9})")
_VERSION = re.compile("[1-9][0-9]{0,3}")
_JSON_TYPE = re.compile(r"[^/;]+/(?:json|[^;]*\+json)\s*(?:;.*)?", re.IGNORECASE | re.DOTALL)
_TRUNCATED = "Input data was truncated"  # msgspec's reason, also for half of a surrogate pair in front of a quote
UNREADABLE = (msgspec.MsgspecError, UnicodeDecodeError, RecursionError)
"""Exceptions of msgspec for bytes that are not the expected JSON."""
_DEEPEST = 12_000  # above the maximum that daprd can deliver: Go rejects JSON nested deeper than 10,000 levels


@lru_cache(maxsize=512)
def _identity(source: str, identity: str) -> str:
    return f"{escape(source)}/{escape(identity)}"


def decode(body: bytes) -> Envelope:
    """Read a structured CloudEvent; only the limits of its data are checked.

    Raises:
        MalformedEvent: The bytes are not a CloudEvents 1.0 event in JSON, or exceed the limits of this module. No other
            exception is raised for any bytes.

    """
    ascii_only, odd = _check_whole(body)
    try:
        envelope = _decoder.decode(body)
    except msgspec.ValidationError:  # an attribute that is not a string: unusual, but mostly allowed
        envelope = _read_any(body)
    except UNREADABLE as error:
        raise _malformed(_why(error, body)) from error
    if not (envelope.id and envelope.source and envelope.type and envelope.specversion):
        raise _malformed(f"{', '.join(name for name in _REQUIRED if not getattr(envelope, name))} missing")
    if envelope.specversion != "1.0":
        raise MalformedEvent(f"CloudEvents version {_shown(envelope.specversion)} is not supported; use 1.0")
    if len(body) > MAX_ATTRIBUTE or not ascii_only or b"\\" in odd or b"\x7f" in odd:
        check_texts(envelope)
    if envelope.version:
        _version(envelope.version)
    changes: dict[str, object] = {}
    if envelope.time and (time := normalise_time(envelope.time)) != envelope.time:
        changes["time"] = time
    if envelope.data_base64:
        changes |= _binary(envelope)
    if envelope.eventid and envelope.id.startswith(DAPR_OUTBOX):
        changes |= {"id": envelope.eventid, "eventid": ""}
    return msgspec.structs.replace(envelope, **changes) if changes else envelope


def _check_whole(body: bytes) -> tuple[bool, bytes]:
    """Check size, encoding and nesting; return whether the body is ASCII, and its odd bytes."""
    if len(body) > MAX_EVENT:
        raise _malformed(f"{len(body)} bytes exceed the limit of {MAX_EVENT}")
    ascii_only = body.isascii()
    if not ascii_only:
        try:
            body.decode()
        except UnicodeDecodeError as error:
            raise _malformed(f"not UTF-8: {error.reason} at byte {error.start}") from error
    return ascii_only, _check_depth(body)


def _check_depth(body: bytes) -> bytes:
    """Check the nesting; return all opening brackets, backslashes and DEL characters, which one cheap pass yields."""
    odd = body.translate(None, _NOT_ODD)
    if len(odd) > MAX_DEPTH:  # it may be; the depth is counted in linear time
        if b"\\" in body:
            body = body.replace(b"\\\\", b"").replace(b'\\"', b"")
        quoted = body.translate(_STEPS, delete=_NO_STRUCTURE).replace(b'""', b"")
        steps = b"".join(quoted.split(b'"')[::2])
        if max(accumulate(memoryview(steps).cast("b")), default=0) > MAX_DEPTH:
            raise _malformed(f"nested deeper than {MAX_DEPTH} levels")
    return odd


def check_texts(envelope: Envelope) -> None:
    """Check the length and the characters of an event's attributes.

    Raises:
        MalformedEvent: An attribute is too long, or holds a character that CloudEvents does not allow.

    """
    for name in _ATTRIBUTES:
        if len(getattr(envelope, name)) > MAX_ATTRIBUTE and name != "data_base64":
            raise _malformed(f"{name} is longer than {MAX_ATTRIBUTE} characters")
    for name in _PLAIN:
        if match := _CONTROL.search(getattr(envelope, name)):
            raise _malformed(f"{name} contains U+{ord(match[0]):04X}, which CloudEvents does not allow")


@lru_cache(maxsize=256)
def _version(text: str) -> str:
    if not _VERSION.fullmatch(text):
        raise _malformed(f"version must be 1 to {MAX_VERSION}, not {_shown(text)}")
    return text


def _read_any(body: bytes) -> Envelope:
    """Read an envelope whose attributes are null or of any CloudEvents type."""
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
    """Decode `data_base64`; JSON becomes the event's data, other content is kept unchanged."""
    if envelope.data not in (_NOTHING, msgspec.Raw(b"null")):
        raise _malformed("data and data_base64 are mutually exclusive")
    try:
        data = base64.b64decode(envelope.data_base64, validate=True)
    except (binascii.Error, ValueError) as error:
        raise _malformed(f"data_base64 is not base64: {error}") from error
    if envelope.datacontenttype and not _JSON_TYPE.fullmatch(envelope.datacontenttype):
        return {"data": _NOTHING}
    try:
        data.decode()
        _check_depth(b"[%b]" % data)  # counts the envelope's own level
        return {"data": msgspec.json.decode(data, type=msgspec.Raw), "data_base64": ""}
    except UNREADABLE as error:
        raise _malformed(f"data_base64 is not JSON: {error}") from error


_aware = msgspec.json.Decoder(Annotated[datetime, msgspec.Meta(tz=True)])
_RFC3339 = re.compile(
    r"([0-9]{4}-[0-9]{2}-[0-9]{2})[Tt ]([0-9]{2}:[0-9]{2}):([0-9]{2})(?:\.([0-9]+))?([Zz]|[+-][0-9]{2}:[0-9]{2})"
)
_LONGEST_TIME = len("2026-01-01T00:00:00.000000Z")


def normalise_time(text: str) -> str:
    """Return a time unchanged if Python can read it, otherwise in UTC.

    A leap second becomes the last microsecond of its minute, and digits beyond the microsecond are cut.

    Raises:
        MalformedEvent: It is not RFC 3339 with a zone, or cannot be expressed in UTC.

    """
    if text[-1] == "Z" and text[10:11] == "T" and len(text) <= _LONGEST_TIME and "\\" not in text:
        try:
            _aware.decode(f'"{text}"'.encode())
        except msgspec.MsgspecError:
            pass
        else:
            return text
    match = _RFC3339.fullmatch(text)
    if not match:
        raise _malformed(f"time must be RFC 3339 with a zone, such as 2026-01-31T09:30:00Z, not {_shown(text)}")
    date, minute, second, fraction, zone = match.groups(default="0")
    leap = second == "60"
    plain = f"{date}T{minute}:{'59' if leap else second}.{'999999' if leap else fraction[:6]}{zone.upper()}"
    try:
        moment = _aware.decode(f'"{plain}"'.encode()).astimezone(UTC)
        if leap and (moment + timedelta(microseconds=1)).time() != datetime.min.time():
            raise _malformed(f"time {_shown(text)} is not a leap second: those end a day in UTC")
    except (msgspec.MsgspecError, OverflowError) as error:
        raise _malformed(f"time {_shown(text)} does not exist, or is outside of the years 1 to 9999 in UTC") from error
    return timestamp(moment)


def _why(error: Exception, body: bytes) -> str:
    """Return msgspec's reason, except where it would mislead."""
    if body.startswith(codecs.BOM_UTF8):
        return "it begins with a byte order mark, which JSON does not allow"
    if str(error) == _TRUNCATED and b"\\ud" in body.lower():
        return f"{_TRUNCATED}, or a \\u escape is half of a surrogate pair"
    return str(error)


def _malformed(reason: str) -> MalformedEvent:
    return MalformedEvent(f"not a CloudEvents envelope: {reason}")


def _shown(text: str) -> str:
    """Return a value for an error message: quoted and shortened."""
    return repr(text if len(text) <= 60 else f"{text[:60]}…")  # noqa: PLR2004 - for people


def read_deep(decoder: msgspec.json.Decoder[T], body: bytes) -> T:
    """Decode JSON that is nested up to the depth that a sidecar delivers.

    Raises one of `UNREADABLE`.
    """
    with as_deep_as_daprd():
        return decoder.decode(body)


@contextmanager
def as_deep_as_daprd() -> Iterator[None]:
    """Raise the recursion limit so that C code can read JSON nested as deeply as Go's decoder can."""
    limit = sys.getrecursionlimit()
    sys.setrecursionlimit(max(limit, _DEEPEST))
    try:
        yield
    finally:
        sys.setrecursionlimit(limit)


def salvage(body: bytes, reason: str) -> Envelope:
    """Read as much as possible of an event that `decode` rejected with this reason.

    The result is within the limits and has no control characters. A missing id is derived from the content, so that it
    is the same at each delivery.
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
    texts: dict[str, str] = {}
    for name in fields.keys() & {*_ATTRIBUTES} - {"data_base64"}:
        try:
            text = _CONTROL.sub("\ufffd", _text(name, bytes(fields[name])))[:MAX_ATTRIBUTE]
            texts[name] = _SALVAGED.get(name, str)(text) if text else ""
        except (MalformedEvent, *UNREADABLE):
            continue
    return texts


_SALVAGED: dict[str, Callable[[str], str]] = {"time": normalise_time, "version": _version}


def new_id() -> str:
    """Return a new event id: a UUIDv7, so that ids sort by creation time."""
    return str(uuid_utils.uuid7())


def timestamp(moment: datetime | None = None) -> str:
    """Format a time, by default now, as RFC 3339 in UTC."""
    return (moment or datetime.now(UTC)).isoformat().replace("+00:00", "Z")
