"""Settings for every test."""

from __future__ import annotations

import gc
import logging
import os
from collections.abc import Iterator

import pytest
import structlog
from hypothesis import settings
from tests.support.ordering import longest_first

# Before any test module imports it: a module that is imported already cannot be rewritten.
pytest.register_assert_rewrite("tests.conformance")

# How long an example takes says something about the machine only. A failure prints the line that reproduces it.
# `make test-fast` tries a part of the examples.
settings.register_profile("tidings", deadline=None, print_blob=True)
settings.register_profile("fast", settings.get_profile("tidings"), max_examples=15)
settings.load_profile("tidings")
# A service that configures no logging, such as most of those under test, would use structlog's defaults, which render
# the local variables of every frame: up to a second for each handler that fails.
structlog.configure(
    processors=[
        *structlog.get_config()["processors"][:-1],
        structlog.dev.ConsoleRenderer(exception_formatter=structlog.dev.plain_traceback),
    ]
)


@pytest.fixture(autouse=True)
def root_logger_restored() -> Iterator[None]:
    """Undo what a test configures: at the level CRITICAL, later tests in the same process would see no log lines."""
    root = logging.getLogger()
    level, handlers = root.level, root.handlers[:]
    yield
    root.setLevel(level)
    root.handlers[:] = handlers


@pytest.fixture(scope="module", autouse=True)
def nothing_left_open() -> Iterator[None]:
    """Let a file's last test fail if a connection or folder was left open, instead of whichever test comes later."""
    yield
    _collect_and_freeze()


def pytest_collection() -> None:
    """Pause the garbage collector: it would traverse what is collected again and again, for a fifth of the time."""
    gc.disable()


def pytest_collection_finish() -> None:
    gc.enable()
    _collect_and_freeze()


def _collect_and_freeze() -> None:
    """Collect garbage, and exempt what remains from later collections.

    That is modules, collected tests and caches, which live as long as the process: a million objects, which take each
    collection of a test up to two seconds to traverse.
    """
    gc.collect()
    gc.freeze()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Start long files first, and give tests that `make cancellations` runs for hours the time to end."""
    items[:] = longest_first(items)
    if os.environ.get("TIDINGS_CANCELLATIONS"):
        for item in items:
            item.add_marker(pytest.mark.timeout(0), append=False)  # a file's own limit overrides --timeout
