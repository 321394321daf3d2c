"""How an aggregate stands in the state store: its value, what it has handled, and what it has yet to tell.

The document is the unit of consistency. Value, inbox and the proof of the outbox change in one write under one etag,
so no store needs to offer more than a conditional write, which all of Dapr's do.
"""

from __future__ import annotations

from typing import Any, TypeVar

import msgspec

from tidings.context import Outgoing
from tidings.keys import escape
from tidings.sidecar import Item

T = TypeVar("T")
INBOX_DAYS = 7


class Pointer(msgspec.Struct, frozen=True, array_like=True):
    """Where a unit of work left messages that were not yet delivered when the document was written."""

    unit: str
    slot: str


class Document(msgspec.Struct, omit_defaults=True):
    """An aggregate with its inbox and outbox pointers.

    `handled` maps the events that changed this document to when that was (seconds since 1970); entries are forgotten
    after seven days, which is longer than any broker of ours redelivers.
    """

    value: msgspec.Raw = msgspec.Raw(b"null")
    handled: dict[str, int] = {}
    pending: list[Pointer] = []


class Slot(msgspec.Struct, omit_defaults=True):
    """Messages of one unit of work, from its commit until they are delivered.

    Valid only while the document points back at it: on a store without real transactions the slot may have been
    written by a unit of work whose document was not. What is `parked` was refused so often that nothing waits for it.
    """

    document: str
    unit: str
    outgoing: list[Outgoing] = []
    scheduled: Scheduled | None = None
    parked: bool = False


class Scheduled(msgspec.Struct, frozen=True):
    """An encoded CloudEvent for a handler of this service itself, due at a moment (seconds since 1970)."""

    due: float
    event: msgspec.Raw


_documents = msgspec.json.Decoder(Document)
_slots = msgspec.json.Decoder(Slot)
_encode = msgspec.json.Encoder().encode


def document_key(model: type[Any], key: str) -> str:
    """Name the document of an aggregate, such as `order/01a2…`, for any text as its key."""
    name = model.__name__
    return f"{name[0].lower()}{name[1:]}/{escape(key)}"


def read_document(item: Item | None) -> Document:
    """Decode a document; one that is not there is empty."""
    return Document() if item is None else _documents.decode(item.value)


def read_slot(item: Item) -> Slot:
    """Decode a slot."""
    return _slots.decode(item.value)


def write(value: Document | Slot) -> bytes:
    """Encode a document or a slot."""
    return _encode(value)


def remembered(handled: dict[str, int], now: float) -> dict[str, int]:
    """Forget what was handled more than seven days ago."""
    oldest = now - INBOX_DAYS * 86_400
    return {key: when for key, when in handled.items() if when >= oldest}
