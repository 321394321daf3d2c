"""A TCP proxy that fails on request: what a cut cable, a silent firewall or a slow line do to real programs."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Literal, Self

from tidings_cli.up.ports import HOST

Mode = Literal["cut", "silent"]
_CHUNK = 65_536


class FaultProxy:
    """Passes bytes on between whoever connects to `port` and a server at `target`.

        async with FaultProxy(port, target) as proxy:
            async with proxy.failing("cut"):
                ...

    `cut` ends every connection and accepts none; `silent` keeps connections, accepts new ones, and passes nothing on
    until it is over, when those connections end: their peers may have given each other up.
    """

    def __init__(self, port: int, target: int) -> None:
        self.port, self.target = port, target
        self._open = asyncio.Event()
        self._open.set()
        self._connections: dict[asyncio.Task[None], asyncio.StreamWriter] = {}
        self._server: asyncio.Server | None = None

    async def __aenter__(self) -> Self:
        await self._listen()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._refuse()
        await self._end_connections()

    @asynccontextmanager
    async def failing(self, mode: Mode) -> AsyncIterator[None]:
        """Fail like that as long as the block lasts."""
        self._open.clear()
        if mode == "cut":
            await self._refuse()
            await self._end_connections()
        try:
            yield
        finally:
            if mode == "cut":
                await self._listen()
            else:
                await self._end_connections()
            self._open.set()

    async def _listen(self) -> None:
        self._server = await asyncio.start_server(self._accept, HOST, self.port)

    async def _refuse(self) -> None:
        if self._server is not None:
            self._server.close()
            self._server = None

    async def _end_connections(self) -> None:
        while ending := dict(self._connections):
            for connection in ending:
                connection.cancel()
            await asyncio.wait(ending)
            for writer in ending.values():
                await _abort(writer)

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        connection = asyncio.create_task(self._connect(reader, writer))
        self._connections[connection] = writer
        connection.add_done_callback(self._end)

    def _end(self, connection: asyncio.Task[None]) -> None:
        self._connections.pop(connection).transport.abort()

    async def _connect(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await self._open.wait()
        try:
            far_reader, far_writer = await asyncio.open_connection(HOST, self.target)
        except OSError:
            return
        ways = [asyncio.create_task(self._pass_on(reader, far_writer))]
        ways.append(asyncio.create_task(self._pass_on(far_reader, writer)))
        try:
            await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for way in ways:
                way.cancel()
            await asyncio.gather(*ways, return_exceptions=True)
            await _abort(far_writer)

    async def _pass_on(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError):
            while data := await reader.read(_CHUNK):
                await self._open.wait()
                writer.write(data)
                await writer.drain()


async def _abort(writer: asyncio.StreamWriter) -> None:
    writer.transport.abort()
    with contextlib.suppress(OSError):
        await writer.wait_closed()  # the socket is closed one step of the loop later
