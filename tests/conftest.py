"""Settings for every test."""

from __future__ import annotations

import os

import pytest
from hypothesis import settings

# Before any test module imports it: a module that is imported already cannot be rewritten.
pytest.register_assert_rewrite("tests.conformance")

# How long an example takes says something about the machine only. A failure prints the line that reproduces it.
settings.register_profile("tidings", deadline=None, print_blob=True)
settings.load_profile("tidings")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Give tests that `make cancellations` runs for hours the time to end: a file's own limit overrides --timeout."""
    if os.environ.get("TIDINGS_CANCELLATIONS"):
        for item in items:
            item.add_marker(pytest.mark.timeout(0), append=False)
