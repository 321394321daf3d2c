"""Builds replayed events: the original event, addressed to one subscription."""

import base64
from dataclasses import dataclass

import msgspec

from tidings.errors import MalformedEvent
from tidings.messages.envelope import BINARY, Envelope, decode

_TRANSPORT_ATTRIBUTES = (
    "pubsubname",
    "topic",
    "traceid",
    "expiration",
    "replayto",
    "replayid",
    "replaytopic",
    "originalid",
)
_TEXTS = {*Envelope.__struct_fields__} - {"data"}


@dataclass(frozen=True, slots=True)
class ReplayTarget:
    """Subscription and replay id of a replayed event, and its largest size in bytes."""

    subscription: str
    replay_id: str
    max_event: int = 1_000_000


def build_replay_event(body: bytes, target: ReplayTarget) -> bytes:
    """Return an archived event or a dead letter as an event for one subscription, otherwise unchanged.

    Attributes that the sidecar added and those that describe a failure are removed. The event of a dead letter gets
    its original id back. `replaytopic` is the topic on which the subscription receives such events when they are new.

    Raises:
        ValueError: The event cannot be sent; the message gives the reason.

    """
    try:
        received = decode(body)
        event = _original(received, body)
        envelope = decode(event)  # first, as it accepts any bytes
        attributes = msgspec.json.decode(event, type=dict[str, msgspec.Raw])
        kept = {
            name: value
            for name, value in attributes.items()
            if name not in _TRANSPORT_ATTRIBUTES
            and not name.startswith("failure")
            and (name == "data" or bytes(value) != b"null")  # null is the same as absent
        }
        # CloudEvents allows integers and booleans; the outbox and daprd read only strings.
        kept |= {name: _json(getattr(envelope, name)) for name in kept.keys() & _TEXTS if bytes(kept[name])[:1] != b'"'}
        if envelope.originalid:
            kept["id"] = _json(envelope.originalid)
        addressing = {"replayto": target.subscription, "replayid": target.replay_id, "replaytopic": received.origin}
        replayed = msgspec.json.encode({**kept, **{name: _json(value) for name, value in addressing.items() if value}})
        decode(replayed)
    except MalformedEvent as error:
        raise ValueError(str(error)) from error
    except msgspec.MsgspecError as error:
        raise ValueError(f"the event cannot be sent: {error}") from error
    if len(replayed) > target.max_event:
        raise ValueError(f"it has {len(replayed)} bytes, but at most {target.max_event} can be published")
    return replayed


def _original(letter: Envelope, body: bytes) -> bytes:
    """Return the event of a dead letter. Where the SDK could not read that event, return the bytes that it received."""
    if letter.failureshortened:
        raise ValueError(f"only a part of it is stored: it was shortened from {letter.failureshortened} bytes")
    if letter.originalid and letter.failureclass == MalformedEvent.__name__ and letter.datacontenttype == BINARY:
        return base64.b64decode(letter.data_base64)
    return body


def _json(text: str) -> msgspec.Raw:
    return msgspec.Raw(msgspec.json.encode(text))
