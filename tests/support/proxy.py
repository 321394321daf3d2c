"""A TCP proxy that fails on request: what a cut cable, a silent firewall or a slow line do to real programs."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Literal, Self

from tidings_cli.up.ports import HOST

Mode = Literal["cut", "silent"]
_CHUNK = 65_536


class FaultProxy:
    """Forwards bytes between clients of `port` and a server at `target`.

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
        self._connections: dict[asyncio.Task[None], socket.socket] = {}
        self._listener: socket.socket | None = None

    async def __aenter__(self) -> Self:
        self._listen()
        return self

    async def __aexit__(self, *_: object) -> None:
        self._refuse()
        await self._end_connections()

    @asynccontextmanager
    async def failing(self, mode: Mode) -> AsyncIterator[None]:
        """Fail like that as long as the block lasts."""
        self._open.clear()
        if mode == "cut":
            self._refuse()
            await self._end_connections()
        try:
            yield
        finally:
            if mode == "cut":
                self._listen()
            else:
                await self._end_connections()
            self._open.set()

    def _listen(self) -> None:
        self._listener = socket.create_server((HOST, self.port))
        self._listener.setblocking(False)
        # asyncio's servers accept in several steps, between which a connection belongs to nobody.
        asyncio.get_running_loop().add_reader(self._listener, self._accept, self._listener)

    def _refuse(self) -> None:
        if self._listener is not None:
            asyncio.get_running_loop().remove_reader(self._listener)
            self._listener.close()
            self._listener = None

    async def _end_connections(self) -> None:
        while ending := list(self._connections):
            for connection in ending:
                connection.cancel()
            await asyncio.wait(ending)

    def _accept(self, listener: socket.socket) -> None:
        with contextlib.suppress(OSError):  # the client has left already
            accepted, _ = listener.accept()
            connection = asyncio.create_task(self._connect(accepted))
            self._connections[connection] = accepted
            connection.add_done_callback(lambda ended: self._connections.pop(ended).close())

    async def _connect(self, accepted: socket.socket) -> None:
        await self._open.wait()
        reader, writer = await asyncio.open_connection(sock=accepted)
        try:
            with contextlib.suppress(OSError):
                await self._connect_to_target(reader, writer)
        finally:
            await _abort(writer)

    async def _connect_to_target(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        far_reader, far_writer = await asyncio.open_connection(HOST, self.target)
        ways = [asyncio.create_task(self._pass_on(reader, far_writer))]
        ways.append(asyncio.create_task(self._pass_on(far_reader, writer)))
        try:
            await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
        finally:
            far_writer.transport.abort()  # before anything is awaited: this task may be cancelled again
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
