"""How an archived event or a dead letter is sent again: as it was, addressed to one subscription."""

from __future__ import annotations

import base64
from dataclasses import dataclass

import msgspec

from tidings.errors import MalformedEvent
from tidings.messages.envelope import decode

_NOT_THE_EVENTS = ("pubsubname", "topic", "traceid", "expiration", "replayto", "replayid", "originalid")


@dataclass(frozen=True, slots=True)
class Address:
    """Whom a replayed event is for, the replay that it is part of, and how large it may be, in bytes."""

    subscription: str
    replay_id: str
    max_event: int = 1_000_000


def addressed(body: bytes, address: Address) -> bytes:
    """Address an archived event or a dead letter to one subscription; it is otherwise what it was.

    What the sidecar added on the way and what a dead letter says of its failure are left out; a dead letter's event
    has its own id again.

    Raises:
        ValueError: It is no event that could be sent; the reason is in the text.

    """
    try:
        event = _original(body)
        attributes = msgspec.json.decode(event, type=dict[str, msgspec.Raw])
        kept = {name: value for name, value in attributes.items() if _is_the_events(name, bytes(value))}
        if original := decode(event).originalid:
            kept["id"] = _json(original)
        to = {"replayto": _json(address.subscription), "replayid": _json(address.replay_id)}
        sent = msgspec.json.encode({**kept, **to})
        decode(sent)
    except MalformedEvent as error:
        raise ValueError(str(error)) from error
    except msgspec.MsgspecError as error:
        raise ValueError(f"no event that could be sent: {error}") from error
    if len(sent) > address.max_event:
        raise ValueError(f"it has {len(sent)} bytes, of which a broker takes {address.max_event}")
    return sent


def _original(body: bytes) -> bytes:
    """Return the event of a dead letter; where that could not be read, the bytes that arrived."""
    letter = decode(body)
    if letter.failureshortened:
        raise ValueError(f"it was shortened from {letter.failureshortened} bytes: only a part of it is here")
    if letter.originalid and letter.failureclass == MalformedEvent.__name__ and letter.data_base64:
        return base64.b64decode(letter.data_base64)
    return body


def _is_the_events(name: str, value: bytes) -> bool:
    if name in _NOT_THE_EVENTS or name.startswith("failure"):
        return False
    return name == "data" or value != b"null"  # null is the same as absent


def _json(text: str) -> msgspec.Raw:
    return msgspec.Raw(msgspec.json.encode(text))
