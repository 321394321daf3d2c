"""Encoding of events for the database: any bytes can be stored, and are read back unchanged."""

import hashlib
import re
from collections.abc import Mapping
from typing import Any

import msgspec

MAX_NUMBER = 2**63 - 1
"""Largest number that the database can store."""
_COUNT = re.compile("[0-9]{1,9}")


def hash_key(*parts: str) -> str:
    """Return a key of fixed length for a sequence of texts; distinct sequences have distinct keys."""
    return hashlib.sha256(msgspec.json.encode(parts)).hexdigest()


def sanitize(text: str) -> str:
    """Replace characters that a database rejects: PostgreSQL refuses NUL, and UTF-8 cannot encode lone surrogates."""
    return text.replace("\0", "\ufffd").encode(errors="replace").decode()


def parse_count(text: str) -> int:
    """Parse a count of at most nine digits from an event's attribute; return 0 for any other text."""
    return int(text) if _COUNT.fullmatch(text) else 0


def body_columns(body: bytes) -> dict[str, Any]:
    """Return the columns of a body: its text, and its bytes where the text cannot represent them."""
    text = body.decode(errors="replace")
    if "\0" not in text and text.encode() == body:
        return {"body": text, "raw": None}
    return {"body": sanitize(text), "raw": body}


def original_body(row: Mapping[Any, Any]) -> bytes:
    """Return a body as it was delivered, from the columns of `body_columns`."""
    text: str = row["body"]
    return text.encode() if row["raw"] is None else bytes(row["raw"])
