"""Ends open streams when the process is asked to stop: a server waits for them, and a board is watched all day."""

from __future__ import annotations

import asyncio
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

_ASKED = (signal.SIGTERM, signal.SIGINT)


@contextmanager
def at_stop(close: Callable[[], None]) -> Iterator[None]:
    """Call `close` in the event loop as soon as a signal asks the process to stop, then do what it did before.

    The lifespan's own end comes too late: a server gets there once the streams are closed. Only a process's main thread
    is told of signals; in any other, as in tests, this does nothing.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    loop = asyncio.get_running_loop()
    former = {number: signal.getsignal(number) for number in _ASKED}

    def stop(number: int, frame: FrameType | None) -> None:
        loop.call_soon_threadsafe(close)
        handler = former[signal.Signals(number)]
        if callable(handler):
            handler(number, frame)

    for number in _ASKED:
        signal.signal(number, stop)
    try:
        yield
    finally:
        for number, handler in former.items():
            signal.signal(number, handler)
