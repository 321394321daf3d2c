"""What holds for every test."""

from __future__ import annotations

import asyncio


def pytest_configure() -> None:
    """Let no event loop be made by asking for one: looptime asks in every test, and nobody would close it."""
    asyncio.set_event_loop(None)
