"""The fault proxy: what it passes on, cuts, and keeps to itself."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import suppress

import pytest
from tests.support.proxy import FaultProxy

from tidings_cli.testing.programs import Ports


@pytest.fixture
async def proxy() -> AsyncIterator[FaultProxy]:
    async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(100):
            writer.write(data)
        writer.close()

    with Ports() as ports:
        port, target = ports.take(), ports.take()
        server = await asyncio.start_server(echo, "127.0.0.1", target)
        async with FaultProxy(port, target) as result:
            yield result
        server.close()


async def connect(proxy: FaultProxy) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    return await asyncio.open_connection("127.0.0.1", proxy.port)


async def ask(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bytes:
    writer.write(b"hello")
    return await asyncio.wait_for(reader.read(100), 60)


async def ended(reader: asyncio.StreamReader) -> bool:
    """Return True if the connection ends, which the system signals in one of two ways."""
    try:
        return await asyncio.wait_for(reader.read(100), 60) == b""
    except ConnectionResetError:
        return True


async def test_bytes_pass_both_ways(proxy: FaultProxy) -> None:
    reader, writer = await connect(proxy)
    assert await ask(reader, writer) == b"hello"
    writer.close()


async def test_a_cut_ends_connections_and_refuses_new_ones(proxy: FaultProxy) -> None:
    reader, writer = await connect(proxy)
    assert await ask(reader, writer) == b"hello"
    async with proxy.failing("cut"):
        assert await ended(reader)
        with pytest.raises(OSError, match=r"(?i)connect"):
            await connect(proxy)
    writer.close()
    again = await connect(proxy)
    assert await ask(*again) == b"hello"
    again[1].close()


@pytest.mark.parametrize("steps", range(8))
async def test_a_cut_ends_connections_that_are_being_accepted(proxy: FaultProxy, steps: int) -> None:
    with socket.create_connection(("127.0.0.1", proxy.port), timeout=60) as client:
        client.setblocking(False)
        for _ in range(steps):  # of the loop: the connection is accepted in the meantime
            await asyncio.sleep(0)
        async with proxy.failing("cut"):
            with suppress(ConnectionError):
                assert await asyncio.wait_for(asyncio.get_running_loop().sock_recv(client, 1), 60) == b""


async def test_nothing_is_answered_during_silence(proxy: FaultProxy) -> None:
    old = await connect(proxy)
    assert await ask(*old) == b"hello"
    async with proxy.failing("silent"):
        new = await connect(proxy)
        for item in (old, new):
            item[1].write(b"hello")
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(item[0].read(100), 0.2)
    for _, writer in (old, new):
        writer.close()
    again = await connect(proxy)
    assert await ask(*again) == b"hello"
    again[1].close()


async def test_a_server_that_is_away_ends_the_connection(proxy: FaultProxy) -> None:
    with Ports() as ports:
        async with FaultProxy(ports.take(), ports.take()) as nowhere:
            reader, writer = await connect(nowhere)
            assert await ended(reader)
            writer.close()
