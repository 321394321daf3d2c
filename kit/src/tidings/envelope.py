"""The metadata of an event (metadata-data over CloudEvents 1.0) and its encoding.

The data stays raw bytes here: it is decoded only once the metadata has said into what.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from datetime import UTC, datetime

import msgspec
import uuid_utils

from tidings.errors import MalformedEvent

CONTENT_TYPE = "application/cloudevents+json"
DAPR_OUTBOX = "outbox-"
"""How the id of every event begins that Dapr's own outbox sends."""
_NOTHING = msgspec.Raw()


class Failure(msgspec.Struct, frozen=True, kw_only=True):
    """Why and where an event was given up, carried by a dead letter as CloudEvents extension attributes."""

    failurereason: str = ""
    failureclass: str = ""
    failureattempts: str = ""
    failuresubscription: str = ""
    failuretopic: str = ""
    failurefirst: str = ""
    failurelast: str = ""


class Envelope(Failure, frozen=True, kw_only=True, omit_defaults=True):
    """The attributes of one event. All are strings, as CloudEvents has them; absent ones are empty.

    `id` is given once, when the fact is recorded, and is the same in every version that the fact is published in,
    in every retry, dead letter and replay. `replayto` names the one subscription that a replayed event is for; `*` is
    whichever subscription of the app reads its type. `eventid` is the id of an event that Dapr's own outbox has sent,
    which gives each an id of its own.
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
    replayto: str = ""
    eventid: str = ""
    pubsubname: str = ""
    topic: str = ""
    data_base64: str = ""
    data: msgspec.Raw = _NOTHING

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
_encoder = msgspec.json.Encoder()


def decode(body: bytes) -> Envelope:
    """Read the metadata of a structured CloudEvent; its data is not looked at.

    Raises:
        MalformedEvent: Not JSON, not an object, an attribute of the wrong type, or a required one is missing.

    """
    try:
        envelope = _decoder.decode(body)
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise MalformedEvent(f"no CloudEvents envelope: {error}") from error
    if not (envelope.id and envelope.source and envelope.type and envelope.specversion):
        missing = [name for name in ("id", "source", "type", "specversion") if not getattr(envelope, name)]
        raise MalformedEvent(f"no CloudEvents envelope: {', '.join(missing)} missing")
    if envelope.specversion != "1.0":
        raise MalformedEvent(f"CloudEvents {envelope.specversion} is not understood, 1.0 is")
    if envelope.eventid and envelope.id.startswith(DAPR_OUTBOX):
        return msgspec.structs.replace(envelope, id=envelope.eventid, eventid="")
    return envelope


def salvage(body: bytes, reason: str) -> Envelope:
    """Read what can be read of an event that `decode` refuses with that reason, for who keeps it all the same.

    One without an id is given one made from its content, so that it is the same at each delivery.
    """
    try:
        found = msgspec.json.decode(body, type=dict[str, object])
    except (msgspec.MsgspecError, UnicodeDecodeError):
        found = {}
    known = {name: value for name in Envelope.__struct_fields__ if isinstance(value := found.get(name), str) and value}
    identity = known.get("id") or f"malformed-{hashlib.sha256(body).hexdigest()[:32]}"
    failure = {"failurereason": reason, "failureclass": MalformedEvent.__name__}
    attributes = {**failure, **known, "id": identity}
    attributes.pop("data", None)
    return msgspec.convert(attributes, Envelope)


def new_id() -> str:
    """Make a new event id: a UUIDv7, so that ids sort by the time they were given."""
    return str(uuid_utils.uuid7())


def timestamp(moment: datetime | None = None) -> str:
    """Write a moment, by default now, as RFC 3339 in UTC."""
    return (moment or datetime.now(UTC)).isoformat().replace("+00:00", "Z")
