"""Keys of persons for tests."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tidings.messages import personal
from tidings.subject_keys import KeyFile


@contextmanager
def keys_in_use(folder: Path) -> Iterator[KeyFile]:
    """Encrypt and decrypt personal data in this process with keys in a folder."""
    keys = KeyFile(folder / "keys.db")
    personal.use(keys)
    try:
        yield keys
    finally:
        personal.use(None)
