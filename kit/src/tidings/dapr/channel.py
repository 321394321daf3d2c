"""Unary gRPC calls over one HTTP/2 connection to the sidecar.

`grpc.aio` costs several times as much CPU time per call, most of it in threads of its own (see "The whole order flow"
in docs/reference/benchmarks.md). Every event needs about six calls, so this is the larger part of what a service
spends.

Implemented is what a client of unary calls needs of RFC 9113 and of gRPC's protocol over HTTP/2: flow control, limits
that the server sets, and orderly shutdown. The connection has no compression state: this side announces a header table
of size 0 and sends literals only. Therefore a header block always has the same meaning, and is encoded or decoded once.
"""

import asyncio
import math
import ssl
import struct
from collections import deque
from collections.abc import Mapping
from functools import lru_cache
from typing import Any
from urllib.parse import unquote

from dapr.conf.helpers import GrpcEndpoint
from grpc import StatusCode
from hpack import Decoder, Encoder, HPACKError, NeverIndexedHeaderTuple

_PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
_DATA, _HEADERS, _RESET, _SETTINGS, _PING, _GO_AWAY, _WINDOW, _CONTINUATION = 0, 1, 3, 4, 6, 7, 8, 9
_ACK, _END_STREAM, _END_HEADERS, _PADDED, _PRIORITY = 0x1, 0x1, 0x4, 0x8, 0x20
_TABLE_SIZE, _PUSH, _MAX_STREAMS, _INITIAL_WINDOW, _MAX_FRAME = 1, 2, 3, 4, 5  # settings
_HEAD = struct.Struct(">BHBBL")  # a 24-bit length, type, flags and stream
_PREFIX = struct.Struct(">BL")  # gRPC's prefix of a message: not compressed, and its length
_CANCEL = 8
_LARGEST = 2**31 - 1  # window and stream number
_LAST_STREAM = 2**30  # of a connection: no further calls begin after it
_DEFAULT_WINDOW = 65_535
_FRAME = 16_384  # bytes that both sides accept by default
_LONGEST_HEAD = 1_048_576
_OF_HTTP = {400: StatusCode.INTERNAL, 401: StatusCode.UNAUTHENTICATED, 403: StatusCode.PERMISSION_DENIED}
_OF_RESET = {7: StatusCode.UNAVAILABLE, _CANCEL: StatusCode.CANCELLED}
_CODES: Mapping[str, StatusCode] = {str(code.value[0]): code for code in StatusCode}


class CallFailed(Exception):
    """A call failed: gRPC's status code, and the message of the side that reports it."""

    def __init__(self, code: StatusCode, details: str) -> None:
        super().__init__(f"{code.name}: {details}")
        self.code = code
        self.details = details


class _ProtocolError(Exception):
    """The other side does not speak HTTP/2."""


class _Call:
    """One call, from its request until the last frame of its response."""

    __slots__ = ("answer", "body", "connection", "head", "message", "response", "sent", "stream", "timer", "window")

    def __init__(self, head: bytes, message: bytes, answer: asyncio.Future[bytes]) -> None:
        self.head = head
        self.message = _PREFIX.pack(0, len(message)) + message
        self.answer = answer
        self.timer: asyncio.TimerHandle | None = None
        self.connection: _Connection | None = None
        self.stream = 0
        self.sent = 0
        self.window = 0
        self.response: dict[str, str] = {}
        self.body = bytearray()

    def fail(self, code: StatusCode, details: str) -> None:
        if not self.answer.done():
            self.answer.set_exception(CallFailed(code, details))
        self._end()

    def finish(self) -> None:
        """Set the result once the response is complete."""
        code, details = _status(self.response)
        if code is not StatusCode.OK:
            self.fail(code, details)
        elif len(self.body) < _PREFIX.size or len(self.body) != _PREFIX.size + _PREFIX.unpack_from(self.body)[1]:
            self.fail(StatusCode.INTERNAL, "the response has no complete message")
        elif self._is_late:
            self.fail(StatusCode.DEADLINE_EXCEEDED, "the answer came too late")
        else:
            if not self.answer.done():
                self.answer.set_result(bytes(self.body[_PREFIX.size :]))
            self._end()

    @property
    def _is_late(self) -> bool:
        """True after the deadline, although a busy event loop may not have run the timer yet.

        At the deadline, Dapr's RabbitMQ component reports success without having published anything: see
        docs/upstream/rabbitmq-deadline.md.
        """
        return self.timer is not None and self.timer.when() <= asyncio.get_running_loop().time()

    def _end(self) -> None:
        if self.timer is not None:
            self.timer.cancel()


def _status(response: Mapping[str, str]) -> tuple[StatusCode, str]:
    status = response.get("grpc-status")
    if status is not None:
        return _CODES.get(status, StatusCode.UNKNOWN), unquote(response.get("grpc-message", ""))
    text = response.get(":status", "none")
    code = _OF_HTTP.get(int(text), StatusCode.UNAVAILABLE) if text.isdecimal() else StatusCode.UNKNOWN
    return code, f"the sidecar answered without gRPC's status, with HTTP status {text}"


@lru_cache(maxsize=256)  # errors have varying texts; all other calls have the same two blocks
def _decoded(block: bytes) -> Mapping[str, str]:
    decoder = Decoder(max_header_list_size=_LONGEST_HEAD)
    decoder.header_table_size = decoder.max_allowed_table_size = 0
    return {_text(name): _text(value) for name, value in decoder.decode(block)}


def _text(value: str | bytes) -> str:
    return value if isinstance(value, str) else value.decode()


def _frame(kind: int, flags: int, stream: int, content: bytes = b"") -> bytes:
    length = len(content)
    return _HEAD.pack(length >> 16, length & 0xFFFF, kind, flags, stream) + content


def _number(value: int) -> bytes:
    return value.to_bytes(4, "big")


class _Connection(asyncio.Protocol):
    """An HTTP/2 connection. `is_open` is False once it accepts no further calls."""

    def __init__(self, max_message: int) -> None:
        self.is_open = True
        self._max_message = max_message
        self._transport: Any = None
        self._received = b""
        self._calls: dict[int, _Call] = {}
        self._queue: deque[_Call] = deque()
        self._next = 1
        self._window, self._first_window = _DEFAULT_WINDOW, _DEFAULT_WINDOW
        self._max_frame, self._max_streams = _FRAME, _LARGEST
        self._consumed = 0
        self._head: tuple[int, int, bytes] = (0, 0, b"")
        """A header block that continues: stream, flags and what has come of it."""

    @property
    def is_busy(self) -> bool:
        """True while calls are in flight."""
        return bool(self._calls or self._queue)

    # -- sending --------------------------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport
        settings = {_TABLE_SIZE: 0, _PUSH: 0, _INITIAL_WINDOW: _LARGEST}
        content = b"".join(struct.pack(">HL", name, value) for name, value in settings.items())
        more = _frame(_WINDOW, 0, 0, _number(_LARGEST - _DEFAULT_WINDOW))
        self._transport.write(_PREFACE + _frame(_SETTINGS, 0, 0, content) + more)

    def send(self, call: _Call) -> None:
        """Send a call as soon as the server's limits allow it."""
        call.connection = self
        self._queue.append(call)
        self._flush()

    def forget(self, call: _Call) -> None:
        """Cancel a call at the server, because its caller no longer waits."""
        if self._calls.pop(call.stream, None) is not None:
            self._transport.write(_frame(_RESET, 0, call.stream, _number(_CANCEL)))
        self._flush()

    def close(self, reason: str = "the connection to the sidecar was closed") -> None:
        """Close the connection, and fail its calls."""
        self.is_open = False
        if self._transport is not None:
            self._transport.abort()
        calls = [*self._calls.values(), *self._queue]
        self._calls.clear()
        self._queue.clear()
        for call in calls:
            call.fail(StatusCode.UNAVAILABLE, reason)

    def _flush(self) -> None:
        frames: list[bytes] = []
        while self._queue:
            call = self._queue[0]
            # A call needs no sending if nobody waits for it, or if it was reset or answered early.
            if call.stream not in self._calls if call.stream else call.answer.done():
                self._queue.popleft()
            elif not self._send_part(call, frames):
                break
        if frames and self._transport is not None:
            self._transport.write(b"".join(frames))

    def _send_part(self, call: _Call, frames: list[bytes]) -> bool:
        """Send a part of a call; return False if it has to wait."""
        if not call.stream:
            if len(self._calls) >= self._max_streams:
                return False
            call.stream, call.window = self._next, self._first_window
            self._next += 2
            self.is_open = self.is_open and self._next < _LAST_STREAM
            self._calls[call.stream] = call
            frames.append(_frame(_HEADERS, _END_HEADERS, call.stream, call.head))
        part = call.message[call.sent : call.sent + min(self._window, call.window, self._max_frame)]
        if not part:
            return False
        call.sent += len(part)
        call.window -= len(part)
        self._window -= len(part)
        is_last = call.sent == len(call.message)
        frames.append(_frame(_DATA, _END_STREAM if is_last else 0, call.stream, part))
        if is_last:
            self._queue.popleft()
        return True

    # -- receiving ------------------------------------------------------------------------------------------------

    def connection_lost(self, error: Exception | None) -> None:
        self.close(f"the connection to the sidecar was lost{f': {error}' if error else ''}")

    def data_received(self, data: bytes) -> None:
        received = self._received + data if self._received else data
        position, length = 0, len(received)
        try:
            while length - position >= _HEAD.size:
                high, low, kind, flags, stream = _HEAD.unpack_from(received, position)
                size = (high << 16) + low
                if size > _FRAME:
                    raise _ProtocolError(f"a frame of {size} bytes")  # noqa: TRY301 - as for all malformed frames
                if length - position < _HEAD.size + size:
                    break
                position += _HEAD.size + size
                self._frame_received(kind, flags, stream & _LARGEST, received[position - size : position])
        except (_ProtocolError, HPACKError, struct.error, UnicodeDecodeError) as error:
            self.close(f"the sidecar's port does not answer in HTTP/2: {error}")
            return
        self._received = received[position:]

    def _frame_received(self, kind: int, flags: int, stream: int, content: bytes) -> None:
        if self._head[0] and kind != _CONTINUATION:
            raise _ProtocolError("an incomplete header block")
        if kind == _DATA:
            self._data(flags, stream, content)
        elif kind == _HEADERS:
            content = _unpadded(flags, content)
            self._header_block(stream, flags, content[5:] if flags & _PRIORITY else content)
        elif kind == _CONTINUATION:
            known, first, begun = self._head
            if known != stream or len(begun) > _LONGEST_HEAD:
                raise _ProtocolError("a header block that continues none, or is too long")
            self._header_block(stream, first & _END_STREAM | flags & _END_HEADERS, begun + content)
        elif kind == _RESET:
            self._reset(stream, *struct.unpack(">L", content))
        else:
            self._control(kind, flags, stream, content)

    def _control(self, kind: int, flags: int, stream: int, content: bytes) -> None:
        if kind == _SETTINGS and not flags & _ACK:
            self._settings(content)
        elif kind == _PING and not flags & _ACK:
            self._transport.write(_frame(_PING, _ACK, 0, content))
        elif kind == _GO_AWAY:
            self._go_away(*struct.unpack_from(">L", content))
        elif kind == _WINDOW:
            self._window_update(stream, *struct.unpack(">L", content))

    def _reset(self, stream: int, reason: int) -> None:
        if (call := self._calls.pop(stream, None)) is not None:
            call.fail(_OF_RESET.get(reason, StatusCode.INTERNAL), "the sidecar ended the call")
        self._flush()

    def _data(self, flags: int, stream: int, content: bytes) -> None:
        self._consumed += len(content)
        if self._consumed > _LARGEST // 2:
            self._transport.write(_frame(_WINDOW, 0, 0, _number(self._consumed)))
            self._consumed = 0
        call = self._calls.get(stream)
        if call is None:
            return
        call.body += _unpadded(flags, content)
        if len(call.body) > self._max_message + _PREFIX.size:
            call.fail(StatusCode.RESOURCE_EXHAUSTED, f"the response is larger than max {self._max_message} bytes")
            self.forget(call)
        elif flags & _END_STREAM:
            self._complete(stream)

    def _header_block(self, stream: int, flags: int, block: bytes) -> None:
        if not flags & _END_HEADERS:
            self._head = stream, flags, block
            return
        self._head = 0, 0, b""
        headers = _decoded(block)
        if (call := self._calls.get(stream)) is not None:
            call.response.update(headers)
            if flags & _END_STREAM:
                self._complete(stream)

    def _complete(self, stream: int) -> None:
        self._calls.pop(stream).finish()
        if self._queue:
            self._flush()
        elif not (self.is_open or self._calls):
            self._transport.close()

    def _settings(self, content: bytes) -> None:
        for name, value in struct.iter_unpack(">HL", content):
            if name == _INITIAL_WINDOW:
                for call in self._calls.values():
                    call.window += value - self._first_window
                self._first_window = value
            elif name == _MAX_FRAME:
                self._max_frame = value
            elif name == _MAX_STREAMS:
                self._max_streams = value
        self._transport.write(_frame(_SETTINGS, _ACK, 0))
        self._flush()

    def _go_away(self, last: int) -> None:
        """Accept no further calls, and fail those that the server will not handle."""
        self.is_open = False
        ignored = [stream for stream in self._calls if stream > last & _LARGEST]
        unsent = [call for call in self._queue if not call.stream]
        self._queue = deque(call for call in self._queue if call.stream)
        for call in [*(self._calls.pop(stream) for stream in ignored), *unsent]:
            call.fail(StatusCode.UNAVAILABLE, "the sidecar is stopping")
        if not self._calls:
            self._transport.close()

    def _window_update(self, stream: int, more: int) -> None:
        if not stream:
            self._window += more
        elif (call := self._calls.get(stream)) is not None:
            call.window += more
        if self._queue:
            self._flush()


def _unpadded(flags: int, content: bytes) -> bytes:
    if not flags & _PADDED:
        return content
    if not content or content[0] >= len(content):
        raise _ProtocolError("a frame with too much padding")
    return content[1 : len(content) - content[0]]


class GrpcChannel:
    """Calls methods of a gRPC server. It connects on the first call, and again after the connection was lost.

    Args:
        endpoint: Address of the server.
        metadata: Sent with every call.
        deadline: Timeout of a call in seconds.
        max_message: Maximum size of a request and of a response in bytes.

    Raises:
        ValueError: Endpoints of this kind are not supported.

    """

    def __init__(
        self, endpoint: GrpcEndpoint, metadata: Mapping[str, str], *, deadline: float, max_message: int
    ) -> None:
        if endpoint.scheme not in ("dns", "unix"):
            raise ValueError(f"{endpoint.endpoint}: use an address such as 127.0.0.1:50001, or unix:///path")
        self._endpoint = endpoint
        self._metadata = metadata
        self._deadline = deadline
        self._max_message = max_message
        self._heads: dict[str, bytes] = {}
        self._connections: list[_Connection] = []
        """The last one, and earlier ones that still have calls."""
        self._connecting: asyncio.Task[None] | None = None
        self._waiting: list[_Call] = []

    def call(self, method: str, message: bytes) -> asyncio.Future[bytes]:
        """Call a method with an encoded message. The future has the encoded response, or `CallFailed`.

        Cancelling the future does not cancel the call on the server.
        """
        loop = asyncio.get_running_loop()
        call = _Call(self._heads.get(method) or self._head(method), message, loop.create_future())
        if len(message) > self._max_message:
            call.fail(StatusCode.RESOURCE_EXHAUSTED, f"the request is larger than max {self._max_message} bytes")
            return call.answer
        call.timer = loop.call_later(self._deadline, self._expire, call)
        if self._connections and self._connections[-1].is_open:
            self._connections[-1].send(call)
        else:
            self._waiting.append(call)
            if self._connecting is None:
                self._connecting = loop.create_task(self._connect())
        return call.answer

    async def close(self) -> None:
        """Close the connection and fail the calls in flight; the next call opens a new one."""
        connecting, self._connecting = self._connecting, None
        if connecting is not None:
            connecting.cancel()
            await asyncio.gather(connecting, return_exceptions=True)
        connections, self._connections = self._connections, []
        for connection in connections:
            connection.close()
        self._fail_waiting("the connection to the sidecar was closed")

    def _head(self, method: str) -> bytes:
        address = f"{self._endpoint.hostname}:{self._endpoint.port}"
        headers = {
            ":method": "POST",
            ":scheme": "https" if self._endpoint.tls else "http",
            ":path": method,
            ":authority": "localhost" if self._endpoint.scheme == "unix" else address,
            "te": "trailers",
            "content-type": "application/grpc",
            "user-agent": "tidings",
            "grpc-timeout": f"{math.ceil(self._deadline * 1000)}m",  # not earlier than here
            **self._metadata,
        }
        tuples = [NeverIndexedHeaderTuple(name, value) for name, value in headers.items()]
        head = self._heads[method] = Encoder().encode(tuples)
        return head

    async def _connect(self) -> None:
        try:
            async with asyncio.timeout(self._deadline):
                connection = await self._opened()
        except (OSError, TimeoutError) as error:
            self._connecting = None
            self._fail_waiting(f"{self._endpoint.endpoint}: {str(error) or 'no connection in time'}")
        else:
            self._connecting = None
            self._connections = [*(known for known in self._connections if known.is_busy), connection]
            waiting, self._waiting = self._waiting, []
            for call in waiting:
                connection.send(call)

    async def _opened(self) -> _Connection:
        loop = asyncio.get_running_loop()
        connection = _Connection(self._max_message)
        if self._endpoint.scheme == "unix":
            await loop.create_unix_connection(lambda: connection, self._endpoint.hostname)
            return connection
        tls = ssl.create_default_context() if self._endpoint.tls else None
        if tls:
            tls.set_alpn_protocols(["h2"])
        host = self._endpoint.hostname.strip("[]")
        await loop.create_connection(lambda: connection, host, self._endpoint.port_as_int, ssl=tls)
        return connection

    def _expire(self, call: _Call) -> None:
        call.fail(StatusCode.DEADLINE_EXCEEDED, f"no answer within {self._deadline:g} s")
        if call.connection is not None:
            call.connection.forget(call)

    def _fail_waiting(self, reason: str) -> None:
        waiting, self._waiting = self._waiting, []
        for call in waiting:
            call.fail(StatusCode.UNAVAILABLE, reason)
