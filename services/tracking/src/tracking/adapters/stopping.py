"""Closes open streams on a stop signal: the server waits for them, and boards stay open all day."""

import asyncio
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

_STOP_SIGNALS = (signal.SIGTERM, signal.SIGINT)


@contextmanager
def at_stop(close: Callable[[], None]) -> Iterator[None]:
    """Call `close` in the event loop on a stop signal, and then the former signal handler.

    The end of the lifespan would be too late: the server reaches it only after all streams are closed. Signal handlers
    can be set in the main thread only; in any other thread, as in tests, this does nothing.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    loop = asyncio.get_running_loop()
    former = {number: signal.getsignal(number) for number in _STOP_SIGNALS}

    def stop(number: int, frame: FrameType | None) -> None:
        loop.call_soon_threadsafe(close)
        handler = former[signal.Signals(number)]
        if callable(handler):
            handler(number, frame)

    for number in _STOP_SIGNALS:
        signal.signal(number, stop)
    try:
        yield
    finally:
        for number, handler in former.items():
            signal.signal(number, handler)
