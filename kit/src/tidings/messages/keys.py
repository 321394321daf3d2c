"""Keys of the state store: encodes any text, injectively, as a part of a key that every store accepts.

Dapr rejects `||` in a key, PostgreSQL rejects NUL, and the stores limit the length of keys, some to 255 characters.
"""

import hashlib
import re
from urllib.parse import quote

MAX_PART = 100
"""Maximum length of a part in characters; a longer text is replaced by its hash."""
_UNSAFE = re.compile(r"[^A-Za-z0-9._~-]")


def escape(text: str) -> str:
    """Percent-encode everything but letters, digits and `-._~`; a text too long for a key becomes its SHA-256.

    Different texts yield different parts: a colon occurs only in the prefix of a hash.
    """
    escaped = quote(text, safe="", errors="surrogatepass") if _UNSAFE.search(text) else text
    if len(escaped) > MAX_PART:
        return f"sha256:{hashlib.sha256(text.encode(errors='surrogatepass')).hexdigest()}"
    return escaped
