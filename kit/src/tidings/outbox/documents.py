"""Format of an aggregate in the state store: its value, its inbox and pointers to its unpublished messages.

The document is the unit of consistency. Value, inbox and outbox pointers change in one write under one etag, so a store
needs only conditional writes, which all of Dapr's offer.
"""

from __future__ import annotations

from collections.abc import Mapping
from itertools import islice, takewhile
from typing import Any, TypeVar

import msgspec

from tidings.context import Outgoing
from tidings.dapr import Item
from tidings.messages.keys import escape

T = TypeVar("T")
INBOX_DAYS = 7
INBOX_KEPT = 100
"""Minimum number of recent entries that a document keeps, regardless of their age."""
INBOX_PACE = 2
"""Maximum number of old entries removed per new one, so that a wrong clock never empties an inbox at once."""
MARKER_DAYS = 28
"""Days after which the store deletes the marker of an event that changed no document, by the store's own clock."""


class Pointer(msgspec.Struct, frozen=True, array_like=True):
    """Location of messages of a unit of work that were not delivered when the document was written."""

    unit: str
    slot: str


class Document(msgspec.Struct, omit_defaults=True):
    """An aggregate with its inbox and outbox pointers.

    `handled` maps the events that changed this document to the time of handling (seconds since 1970), in the order of
    handling. `remembered` describes the retention.
    """

    value: msgspec.Raw = msgspec.Raw(b"null")
    handled: dict[str, int] = {}
    pending: list[Pointer] = []


class Slot(msgspec.Struct, omit_defaults=True):
    """Messages of one unit of work, from its commit until they are delivered.

    Valid only while the document points to it: on a store without real transactions the slot may have been written by a
    unit of work whose document was not. A `parked` slot has been rejected so often that later messages no longer wait
    for it.
    """

    document: str
    unit: str
    outgoing: list[Outgoing] = []
    scheduled: Scheduled | None = None
    parked: bool = False


class Scheduled(msgspec.Struct, frozen=True):
    """An encoded CloudEvent for a handler of this service itself, due at a time (seconds since 1970).

    `wait` is the requested delay in seconds. It limits the waiting time even if the clock is set back.
    """

    due: float
    event: msgspec.Raw
    wait: float = 0.0

    def remaining(self, now: float) -> float:
        """Return the seconds until the message is due."""
        return min(max(self.due - now, 0.0), self.wait)


_documents = msgspec.json.Decoder(Document)
_slots = msgspec.json.Decoder(Slot)
_encode = msgspec.json.Encoder().encode


def document_key(model: type[Any], key: str) -> str:
    """Return the key of an aggregate's document, such as `order/01a2…`; `key` may be any text."""
    name = model.__name__
    return f"{name[0].lower()}{name[1:]}/{escape(key)}"


def read_document(item: Item | None) -> Document:
    """Decode a document; a missing one is empty."""
    return Document() if item is None else _documents.decode(item.value)


def read_slot(item: Item) -> Slot:
    """Decode a slot."""
    return _slots.decode(item.value)


def write(value: Document | Slot) -> bytes:
    """Encode a document or a slot."""
    return _encode(value)


def remembered(handled: Mapping[str, int], now: float, added: int) -> dict[str, int]:
    """Return a document's inbox without expired entries, before `added` new ones are added.

    Entries expire after seven days, which is longer than any supported broker redelivers. Because a clock may be wrong
    by days, at most two entries are removed per new one, in the order of handling, and the last hundred always stay. An
    entry from the future was written while the clock was wrong, and is removed in its turn.
    """
    surplus = min(len(handled) + added - INBOX_KEPT, INBOX_PACE * added)
    if surplus <= 0:
        return dict(handled)
    oldest = now - INBOX_DAYS * 86_400
    first = takewhile(lambda entry: not oldest <= entry[1] <= now, islice(handled.items(), surplus))
    return dict(islice(handled.items(), len(list(first)), None))
