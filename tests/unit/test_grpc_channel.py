"""The SDK's gRPC channel: against a server of `grpc.aio`, and against a peer that sends chosen HTTP/2 frames."""

from __future__ import annotations

import asyncio
import contextlib
import struct
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from dapr.conf.helpers import GrpcEndpoint
from grpc import GenericRpcHandler, StatusCode, aio, ssl_server_credentials, unary_unary_rpc_method_handler
from hpack import Encoder
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.support.examples import examples

from tidings.dapr.channel import CallFailed, GrpcChannel, _Call, _Connection

MAX = 4 * 1024 * 1024


def channel(address: str, *, deadline: float = 60.0, token: str = "secret") -> GrpcChannel:
    return GrpcChannel(GrpcEndpoint(address), {"dapr-api-token": token}, deadline=deadline, max_message=MAX)


# -- a real gRPC server -----------------------------------------------------------------------------------------------


class Methods(GenericRpcHandler):
    """`/t/<name>` calls the method of that name."""

    def __init__(self) -> None:
        self.seen: list[dict[str, str]] = []
        self.hanging = asyncio.Event()
        self.ended = asyncio.Event()

    def service(self, handler_call_details: Any) -> Any:
        self.seen.append({str(name): str(value) for name, value in handler_call_details.invocation_metadata})
        return unary_unary_rpc_method_handler(getattr(self, handler_call_details.method.removeprefix("/t/")))

    async def echo(self, request: bytes, _context: Any) -> bytes:
        return request

    async def refuse(self, request: bytes, context: Any) -> bytes:
        await context.abort(StatusCode.FAILED_PRECONDITION, request.decode())
        return b""

    async def hang(self, _request: bytes, _context: Any) -> bytes:
        self.hanging.set()
        try:
            await asyncio.Event().wait()
        finally:
            self.ended.set()
        return b""


@contextlib.asynccontextmanager
async def served(methods: Methods, address: str = "127.0.0.1:0") -> AsyncIterator[tuple[aio.Server, str]]:
    server = aio.server(
        options=[("grpc.max_receive_message_length", 2 * MAX), ("grpc.max_send_message_length", MAX * 2)]
    )
    server.add_generic_rpc_handlers((methods,))
    port = server.add_insecure_port(address)
    await server.start()
    try:
        yield server, f"127.0.0.1:{port}" if port > 1 else address
    finally:
        await server.stop(None)


@pytest_asyncio.fixture
async def methods() -> Methods:
    return Methods()


async def test_calls_return_responses_of_any_size(methods: Methods) -> None:
    sizes = (0, 1, 16_384, 65_536, 1_000_000, MAX)
    async with served(methods) as (_, address):
        calls = channel(address)
        answers = await asyncio.gather(
            *(calls.call("/t/echo", bytes([number]) * size) for number, size in enumerate(sizes))
        )
        await calls.close()
    assert answers == [bytes([number]) * size for number, size in enumerate(sizes)]
    assert all(seen["dapr-api-token"] == "secret" for seen in methods.seen)


async def test_many_calls_share_a_connection(methods: Methods) -> None:
    async with served(methods) as (_, address):
        calls = channel(address)
        for _ in range(3):
            answers = await asyncio.gather(*(calls.call("/t/echo", str(number).encode()) for number in range(300)))
            assert answers == [str(number).encode() for number in range(300)]
        await calls.close()


@pytest.mark.parametrize("details", ["possible etag mismatch", "Größe 100 % überschritten\n", "x" * 20_000])
async def test_an_error_has_the_servers_code_and_text(methods: Methods, details: str) -> None:
    async with served(methods) as (_, address):
        calls = channel(address)
        for _ in range(2):
            with pytest.raises(CallFailed) as failed:
                await calls.call("/t/refuse", details.encode())
            assert (failed.value.code, failed.value.details) == (StatusCode.FAILED_PRECONDITION, details)
        await calls.close()


async def test_a_message_over_the_limit_fails_alone(methods: Methods) -> None:
    async with served(methods) as (_, address):
        small = GrpcChannel(GrpcEndpoint(address), {}, deadline=60, max_message=100_000)
        for way in ("request", "response"):
            if way == "response":
                small._max_message = 200_000  # the limit of its open connection stays
            with pytest.raises(CallFailed, match=f"RESOURCE_EXHAUSTED: the {way} is larger than max 100000 bytes"):
                await small.call("/t/echo", b"x" * 150_000)
            assert await small.call("/t/echo", b"small") == b"small"
        await small.close()


async def test_a_call_ends_at_its_deadline_also_on_the_server(methods: Methods) -> None:
    async with served(methods) as (_, address):
        calls = channel(address, deadline=0.3)
        with pytest.raises(CallFailed, match="DEADLINE_EXCEEDED"):
            await calls.call("/t/hang", b"")
        await asyncio.wait_for(methods.ended.wait(), 60)
        await calls.close()


async def test_a_cancelled_caller_ends_no_call(methods: Methods) -> None:
    async with served(methods) as (_, address):
        calls = channel(address)
        hanging = asyncio.ensure_future(_result(calls.call("/t/hang", b"")))
        await asyncio.wait_for(methods.hanging.wait(), 60)
        hanging.cancel()
        assert await calls.call("/t/echo", b"other") == b"other"
        assert not methods.ended.is_set()
        await calls.close()
        await asyncio.wait_for(methods.ended.wait(), 60)


async def _result(call: asyncio.Future[bytes]) -> bytes:
    return await call


async def test_calls_fail_while_the_server_is_away_and_go_on_once_it_is_back(methods: Methods) -> None:
    async with served(methods) as (server, address):
        calls = channel(address)
        hanging = calls.call("/t/hang", b"")
        await asyncio.wait_for(methods.hanging.wait(), 60)
        await server.stop(None)
        with pytest.raises(CallFailed):
            await hanging
    for _ in range(2):
        with pytest.raises(CallFailed, match="UNAVAILABLE"):
            await calls.call("/t/echo", b"")
    async with served(methods, address):
        assert await calls.call("/t/echo", b"again") == b"again"
        await calls.close()
        assert await calls.call("/t/echo", b"after close") == b"after close"
        await calls.close()


async def test_closing_fails_the_calls_in_flight(methods: Methods) -> None:
    async with served(methods) as (_, address):
        calls = channel(address)
        hanging, early = calls.call("/t/hang", b""), channel(address)
        await asyncio.wait_for(methods.hanging.wait(), 60)
        waiting = early.call("/t/echo", b"")  # it is not connected yet
        await asyncio.gather(calls.close(), early.close())
        for call in (hanging, waiting):
            with pytest.raises(CallFailed, match="UNAVAILABLE: the connection to the sidecar was closed"):
                await call


async def test_a_unix_socket_is_an_address(methods: Methods, tmp_path: Path) -> None:
    async with served(methods, f"unix:{tmp_path}/d.sock") as (_, address):
        calls = channel(address)
        assert await calls.call("/t/echo", b"here") == b"here"
        await calls.close()


async def test_tls_trusts_the_certificates_that_python_trusts(
    methods: Methods, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    key, certificate = _certificate()
    server = aio.server()
    server.add_generic_rpc_handlers((methods,))
    port = server.add_secure_port("localhost:0", ssl_server_credentials([(key, certificate)]))
    await server.start()
    try:
        refused = channel(f"localhost:{port}?tls=true")
        with pytest.raises(CallFailed, match=r"UNAVAILABLE: .*certificate verify failed"):
            await refused.call("/t/echo", b"")
        (tmp_path / "trusted.pem").write_bytes(certificate)
        monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "trusted.pem"))
        calls = channel(f"localhost:{port}?tls=true")
        assert await calls.call("/t/echo", b"x" * 100_000) == b"x" * 100_000
        await calls.close()
    finally:
        await server.stop(None)


def _certificate() -> tuple[bytes, bytes]:
    """Return a key and a certificate for localhost that it has signed itself."""
    key, name = ec.generate_private_key(ec.SECP256R1()), x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "test")])
    now = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number(), now, now + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost")]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    return private, certificate.public_bytes(serialization.Encoding.PEM)


def test_other_schemes_are_refused() -> None:
    with pytest.raises(ValueError, match=r"use an address such as 127.0.0.1:50001, or unix:///path"):
        channel("vsock:3:50001")


# -- a peer that sends chosen frames ----------------------------------------------------------------------------------


def frame(kind: int, flags: int, stream: int, content: bytes = b"") -> bytes:
    return struct.pack(">BHBBL", len(content) >> 16, len(content) & 0xFFFF, kind, flags, stream) + content


def block(**headers: str) -> bytes:
    encoder = Encoder()
    encoder.header_table_size = 0
    return encoder.encode([(name.replace("_", "-").replace("--", ":"), value) for name, value in headers.items()])


HEAD = block(__status="200", content_type="application/grpc")
TRAILERS = block(grpc_status="0")
MESSAGE = b"\0\0\0\0\5hello"
SETTINGS = frame(4, 0, 0)


class Peer:
    """Answers the first request with given bytes, and reads what comes."""

    def __init__(self, answer: bytes, *, piece: int = 0, first: bytes = SETTINGS) -> None:
        self.answer, self.piece, self.first = answer, piece, first
        self.received = bytearray()
        self.connections: list[asyncio.Task[Any] | None] = []

    async def __call__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections.append(asyncio.current_task())
        writer.write(self.first)
        with contextlib.suppress(ConnectionError):
            while data := await reader.read(65_536):
                self.received += data
                if b"hello?" in self.received:
                    self.received.clear()
                    step = self.piece or len(self.answer) or 1
                    for start in range(0, len(self.answer), step):
                        writer.write(self.answer[start : start + step])
                        await writer.drain()
                        await asyncio.sleep(0)
        writer.close()
        with contextlib.suppress(ConnectionError):
            await writer.wait_closed()


@contextlib.asynccontextmanager
async def peering(peer: Peer, **how: Any) -> AsyncIterator[GrpcChannel]:
    server = await asyncio.start_server(peer, "127.0.0.1", 0)
    calls = channel(f"127.0.0.1:{server.sockets[0].getsockname()[1]}", **how)
    try:
        yield calls
    finally:
        await calls.close()
        server.close()
        await asyncio.gather(*filter(None, peer.connections))


def answered(stream: int) -> bytes:
    return frame(1, 4, stream, HEAD) + frame(0, 0, stream, MESSAGE) + frame(1, 5, stream, TRAILERS)


ANSWER = answered(1)
ANSWERS = {
    "in three frames": ANSWER,
    "with padding and priority": frame(1, 4 | 8 | 32, 1, b"\2" + b"\0" * 5 + HEAD + b"\0\0")
    + frame(0, 8, 1, b"\3" + MESSAGE + b"\0" * 3)
    + frame(1, 5, 1, TRAILERS),
    "with continued headers": frame(1, 0, 1, HEAD[:3]) + frame(9, 4, 1, HEAD[3:]) + frame(0, 0, 1, MESSAGE)
    + frame(1, 1, 1, TRAILERS[:2]) + frame(9, 0, 1, TRAILERS[2:4]) + frame(9, 4, 1, TRAILERS[4:]),
    "in parts": frame(1, 4, 1, HEAD) + b"".join(frame(0, 0, 1, bytes([byte])) for byte in MESSAGE)
    + frame(1, 5, 1, TRAILERS),
    "after frames to ignore": frame(2, 0, 1, b"\0" * 5) + frame(99, 255, 7, b"new") + frame(0, 0, 9, b"x")
    + frame(1, 4, 9, HEAD) + frame(6, 1, 0, b"\0" * 8) + frame(4, 1, 0) + ANSWER,
    "with changed settings": frame(4, 0, 0, struct.pack(">HLHL", 1, 0, 5, 20_000)) + ANSWER,
}  # fmt: skip


@pytest.mark.parametrize("piece", [0, 1, 7])
@pytest.mark.parametrize("answer", ANSWERS)
async def test_responses_are_read_however_they_are_framed(answer: str, piece: int) -> None:
    async with peering(Peer(ANSWERS[answer], piece=piece)) as calls:
        assert await calls.call("/t/x", b"hello?") == b"hello"


FAILURES = {
    "reset": (frame(3, 0, 1, b"\0\0\0\7"), "UNAVAILABLE: the sidecar ended the call"),
    "only trailers": (frame(1, 5, 1, block(__status="200", grpc_status="13", grpc_message="a%25b")), "INTERNAL: a%b"),
    "unknown code": (frame(1, 5, 1, block(__status="200", grpc_status="99")), "UNKNOWN: "),
    "no gRPC": (frame(1, 5, 1, block(__status="401")), "UNAUTHENTICATED: .* with HTTP status 401"),
    "no trailers": (frame(1, 4, 1, HEAD) + frame(0, 1, 1, MESSAGE), "UNAVAILABLE: .* without gRPC's status"),
    "no message": (
        frame(1, 5, 1, block(__status="200", grpc_status="0")),
        "INTERNAL: the response has no complete message",
    ),
    "half a message": (
        frame(1, 4, 1, HEAD) + frame(0, 0, 1, MESSAGE[:-1]) + frame(1, 5, 1, TRAILERS),
        "INTERNAL: the response has no complete message",
    ),
    "HTTP/1.1": (b"HTTP/1.1 400 Bad Request\r\n\r\n", "UNAVAILABLE: the sidecar's port does not answer in HTTP/2"),
    "compression state": (frame(1, 5, 1, b"\xbe"), "UNAVAILABLE: the sidecar's port does not answer in HTTP/2"),
    "too much padding": (frame(0, 8, 1, b"\x09abc"), "UNAVAILABLE: the sidecar's port does not answer in HTTP/2"),
    "interrupted headers": (frame(1, 0, 1, HEAD) + frame(0, 0, 1), "UNAVAILABLE: the sidecar's port does not"),
    "stopping": (frame(7, 0, 0, b"\0" * 8), "UNAVAILABLE: the sidecar is stopping"),
}


@pytest.mark.parametrize("failure", FAILURES)
async def test_a_failed_call_gives_the_reason_and_the_next_one_can_succeed(failure: str) -> None:
    answer, reason = FAILURES[failure]
    peer = Peer(answer)
    async with peering(peer) as calls:
        with pytest.raises(CallFailed, match=reason):
            await calls.call("/t/x", b"hello?")
        stream = 3 if calls._connections[-1].is_open else 1
        peer.answer = answered(stream)
        assert await calls.call("/t/x", b"hello?") == b"hello"


class Transport:
    """A transport that records what a connection writes."""

    def __init__(self) -> None:
        self.written = bytearray()
        self.closed = False

    def write(self, data: bytes) -> None:
        self.written += data

    def abort(self) -> None:
        self.closed = True

    def close(self) -> None:
        self.closed = True

    def taken(self) -> list[tuple[int, int, bytes]]:
        """Return and forget the frames written: type, stream and content."""
        data, frames = bytes(self.written.removeprefix(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n")), []
        self.written.clear()
        while data:
            size, kind, stream = int.from_bytes(data[:3]), data[3], int.from_bytes(data[5:9])
            frames.append((kind, stream, data[9 : 9 + size]))
            data = data[9 + size :]
        return frames


def connected(first: bytes = SETTINGS) -> tuple[_Connection, Transport]:
    connection, transport = _Connection(MAX), Transport()
    connection.connection_made(transport)  # type: ignore[arg-type]
    connection.data_received(first)
    transport.taken()
    return connection, transport


def request(message: bytes, loop: asyncio.AbstractEventLoop | None = None) -> _Call:
    return _Call(b"head", message, (loop or asyncio.get_running_loop()).create_future())


async def test_the_server_decides_how_much_is_sent_at_once() -> None:
    """One stream at a time, and 10 bytes of it, until the server grants more."""
    connection, transport = connected(frame(4, 0, 0, struct.pack(">HLHL", 3, 1, 4, 10)))
    first, second = request(b"x" * 20), request(b"y")
    connection.send(first)
    connection.send(second)
    assert transport.taken() == [(1, 1, b"head"), (0, 1, b"\0\0\0\0\x14xxxxx")]
    connection.data_received(frame(8, 0, 1, b"\0\0\0\x05"))
    assert transport.taken() == [(0, 1, b"xxxxx")]
    connection.data_received(frame(4, 0, 0, struct.pack(">HL", 4, 20)))  # applies to open streams, too
    assert transport.taken() == [(4, 0, b""), (0, 1, b"x" * 10)]
    assert not second.stream
    connection.data_received(ANSWER)
    assert first.answer.result() == b"hello"
    assert transport.taken() == [(1, 3, b"head"), (0, 3, b"\0\0\0\0\1y")]


async def test_the_window_of_the_connection_is_shared() -> None:
    connection, transport = connected(frame(4, 0, 0, struct.pack(">HL", 4, 1_000_000)))
    connection.send(request(b"x" * 65_500))
    connection.send(request(b"y" * 100))
    assert sum(len(content) for kind, _, content in transport.taken() if kind == 0) == 65_535
    connection.data_received(frame(8, 0, 0, b"\0\0\1\0"))
    assert transport.taken() == [(0, 3, b"y" * 75)]


async def test_an_abandoned_call_is_not_sent_and_one_that_expires_is_reset() -> None:
    connection, transport = connected(frame(4, 0, 0, struct.pack(">HL", 3, 1)))
    first, cancelled, third = request(b"1"), request(b"2"), request(b"3")
    for call in (first, cancelled, third):
        connection.send(call)
    transport.taken()
    cancelled.answer.cancel()
    connection.forget(first)
    assert transport.taken() == [(3, 1, b"\0\0\0\x08"), (1, 3, b"head"), (0, 3, b"\0\0\0\0\0013")]
    connection.data_received(ANSWER)  # of the first one: too late
    assert third.stream == 3
    assert not third.answer.done()


async def test_a_ping_is_answered_and_received_bytes_are_granted_again() -> None:
    connection, transport = connected()
    connection.data_received(frame(6, 0, 0, b"12345678"))
    assert transport.taken() == [(6, 0, b"12345678")]
    connection._consumed = 2**30 - 1
    connection.data_received(frame(0, 0, 1, b"ab"))
    assert transport.taken() == [(8, 0, struct.pack(">L", 2**30 + 1))]


async def test_calls_in_flight_end_before_a_stopping_server_is_left() -> None:
    connection, transport = connected()
    first, second = request(b"1"), request(b"2")
    connection.send(first)
    connection.send(second)
    connection.data_received(frame(7, 0, 0, b"\0\0\0\1\0\0\0\0"))
    assert not connection.is_open
    assert not first.answer.done()
    with pytest.raises(CallFailed, match="the sidecar is stopping"):
        second.answer.result()
    assert not transport.closed
    connection.data_received(ANSWER)
    assert first.answer.result() == b"hello"
    assert transport.closed


@given(st.binary(max_size=200), st.booleans())
@settings(max_examples=examples(200), deadline=None)
def test_no_bytes_of_a_server_raise_anything(data: bytes, framed: bool) -> None:
    loop = asyncio.new_event_loop()
    try:
        connection, _ = connected()
        call = request(b"hello", loop)
        connection.send(call)
        connection.data_received(frame(data[0] % 11, data[1], 1, data[2:]) if framed and len(data) > 1 else data)
        connection.connection_lost(None)
        assert call.answer.done()
        call.answer.exception()
    finally:
        loop.close()
