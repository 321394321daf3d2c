"""Fixtures of unit tests."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.support.subject_keys import keys_in_use

from tidings.subject_keys import KeyFile


@pytest.fixture
def keys(tmp_path: Path) -> Iterator[KeyFile]:
    """Return the keys of persons that this process uses."""
    with keys_in_use(tmp_path) as result:
        yield result
