"""How what arrives is stored: whatever the bytes are, nothing of them is lost and no database refuses them."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from typing import Any

import msgspec

_COUNT = re.compile("[0-9]{1,9}")


def key(*parts: str) -> str:
    """Return a key for these texts together: short, whatever their length, and different for different texts."""
    return hashlib.sha256(msgspec.json.encode(parts)).hexdigest()


def storable(text: str) -> str:
    """Return text that every database takes: PostgreSQL has no NUL in a text, and UTF-8 has no lone surrogates."""
    return text.replace("\0", "\ufffd").encode(errors="replace").decode()


def number(text: str) -> int:
    """Return a count as an event's attribute has it; 0 where it is none, or has more than nine digits."""
    return int(text) if _COUNT.fullmatch(text) else 0


def stored(body: bytes) -> dict[str, Any]:
    """Return the columns of a body: text where it is one, else the bytes and what can be read of them."""
    text = body.decode(errors="replace")
    if "\0" not in text and text.encode() == body:
        return {"body": text, "raw": None}
    return {"body": storable(text), "raw": body}


def delivered(row: Mapping[Any, Any]) -> bytes:
    """Return a body as it was delivered, from the columns that `stored` made."""
    text: str = row["body"]
    return text.encode() if row["raw"] is None else bytes(row["raw"])
