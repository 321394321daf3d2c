"""Bulk deliveries: the sidecar delivers one or several events in one request, and the answer names each of them.

With `rawPayload` an entry holds the published bytes in base64. Without it, which is how a Subscription with routing
rules is delivered, the sidecar has decoded and re-encoded each event: whole numbers beyond 2**53 have lost digits by
then, and fields are in alphabetical order.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Literal

import msgspec

from tidings.messages.envelope import UNREADABLE, read_deep


class Entry(msgspec.Struct, frozen=True, rename="camel"):
    """One event of a delivery, under the name that its answer must carry."""

    entry_id: str
    event: msgspec.Raw = msgspec.Raw(b"null")

    @property
    def body(self) -> bytes:
        """The event's bytes. An entry that is neither an object nor valid base64 is returned as it is: malformed."""
        event = bytes(self.event)
        if not event.startswith(b'"'):
            return event
        try:
            return msgspec.json.decode(event, type=bytes)
        except msgspec.MsgspecError:
            return event


class _Bulk(msgspec.Struct, frozen=True):
    """daprd's envelope of many events, which is no CloudEvent."""

    type: Literal["com.dapr.event.sent.bulk"]
    entries: list[Entry]
    specversion: str = ""


_decoder = msgspec.json.Decoder(_Bulk)
_TYPE = b'"com.dapr.event.sent.bulk"'


def entries(body: bytes) -> list[Entry] | None:
    """The events of a delivery of many; None where it is something else."""
    if _TYPE not in body:
        return None
    try:
        found = read_deep(_decoder, body)
    except UNREADABLE:
        return None
    return None if found.specversion else found.entries or None


def answer(found: Sequence[Entry], answers: Iterable[bytes]) -> bytes:
    """Say of each event what became of it: an event without an answer would come again."""
    statuses = [
        {"entryId": entry.entry_id, **msgspec.json.decode(each)} for entry, each in zip(found, answers, strict=True)
    ]
    return msgspec.json.encode({"statuses": statuses})
