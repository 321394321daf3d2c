"""uvicorn's HTTP protocol with limits: `uvicorn --http tidings.web.protocol:BoundedProtocol`.

With httptools, uvicorn accepts request heads of any size, waits indefinitely for the end of a head, and keeps unread
responses indefinitely. `tidings.web.guard` limits bodies.
"""

import asyncio

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

MAX_HEAD = 64 * 1024
"""Maximum size of a request line and its headers in bytes."""
HEAD_DEADLINE = 10.0
"""Seconds within which a head must arrive, counted from the connection or from its first byte."""
OVERHEAD = 8
"""Maximum transfer size per byte of a chunked body, in bytes: one-byte chunks need six."""
READ_DEADLINE = 30.0
"""Seconds that a client may leave a full buffer unread."""


class BoundedProtocol(HttpToolsProtocol):
    """Closes the connections of clients that send or read too slowly, and rejects oversized heads."""

    _head: int | None = 0
    _excess: int = 0
    """Bytes outside of the body, such as trailers and chunk extensions, which the body limit does not count."""
    _head_timer: asyncio.TimerHandle | None = None
    _read_timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Start the timer for the first head."""
        super().connection_made(transport)
        self._expect_head()

    def connection_lost(self, exc: Exception | None) -> None:
        """Cancel the timers."""
        self._head_timer, self._read_timer = _cancelled(self._head_timer), _cancelled(self._read_timer)
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Count the bytes of a head."""
        if self._head is not None:
            self._head += len(data)
        else:
            self._excess += len(data)
        super().data_received(data)
        if self._head is None and self._excess > MAX_HEAD:
            self.transport.abort()
            return
        if self._head is not None and self._head > MAX_HEAD and not self.transport.is_closing():
            self.send_400_response(f"The request line and headers have more than {MAX_HEAD} bytes.")

    def on_message_begin(self) -> None:
        """Start the timer for a head, unless the connection's first timer is still running."""
        super().on_message_begin()
        if self._head_timer is None:
            self._expect_head()

    def on_headers_complete(self) -> None:
        """Pass the request to the application.

        Raises:
            ValueError: The head is too large; uvicorn responds with 400.

        """
        self._head, self._head_timer, self._excess = None, _cancelled(self._head_timer), 0
        if len(self.url) + sum(len(name) + len(value) for name, value in self.headers) > MAX_HEAD:
            raise ValueError("the request's head is too large")
        super().on_headers_complete()

    def on_body(self, body: bytes) -> None:
        """Subtract the body and its chunk overhead from the excess."""
        self._excess = max(0, self._excess - OVERHEAD * len(body))
        super().on_body(body)

    def pause_writing(self) -> None:
        """Start the timer for a client that does not read."""
        super().pause_writing()
        self._read_timer = self.loop.call_later(READ_DEADLINE, self.transport.abort)

    def resume_writing(self) -> None:
        """Cancel the timer: the client reads again."""
        super().resume_writing()
        self._read_timer = _cancelled(self._read_timer)

    def _expect_head(self) -> None:
        self._head = 0
        self._head_timer = self.loop.call_later(HEAD_DEADLINE, self.transport.abort)


def _cancelled(timer: asyncio.TimerHandle | None) -> asyncio.TimerHandle | None:
    if timer is not None:
        timer.cancel()
    return None
