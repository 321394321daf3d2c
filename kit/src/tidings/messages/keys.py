"""Keys of the state store: any text as a part of a key that every store takes, and different texts never as the same.

Dapr refuses `||` in a key, PostgreSQL refuses NUL, and the stores limit a key's length, some to 255 characters.
"""

from __future__ import annotations

import hashlib
import re
from urllib.parse import quote

MAX_PART = 100
"""The longest part, in characters; the key of a longer text is its hash."""
_UNSAFE = re.compile(r"[^A-Za-z0-9._~-]")


def escape(text: str) -> str:
    """Percent-encode everything but letters, digits and `-._~`; a text too long for a key becomes its SHA-256.

    No two texts give the same part: a colon occurs only in the mark of a hash.
    """
    escaped = quote(text, safe="", errors="surrogatepass") if _UNSAFE.search(text) else text
    if len(escaped) > MAX_PART:
        return f"sha256:{hashlib.sha256(text.encode(errors='surrogatepass')).hexdigest()}"
    return escaped
