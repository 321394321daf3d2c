"""HTTP events per second on one core, against dapr-ext-fastapi with a pydantic model.

Each side is a uvicorn process that is bound to the last core; a client on the other ones keeps eight connections busy.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import sys
import time
from collections.abc import AsyncIterator
from pathlib import Path

from ingress_cpu import body
from rounds import Comparison, Side, compare

from tidings_cli.testing.programs import Ports, listens, tied

CONNECTIONS, SECONDS = 8, 1.5
LENGTH = re.compile(rb"content-length: (\d+)")
PATH = "/events/orders.orderConfirmed.v2"
HERE = Path(__file__).parent


@contextlib.asynccontextmanager
async def served(side: str, ports: Ports) -> AsyncIterator[int]:
    """Run a factory of `ingress_cpu` behind uvicorn."""
    port = ports.take()
    server = [sys.executable, "-m", "uvicorn", "--factory", f"ingress_cpu:{side}", "--port", str(port)]
    command = tied([*server, "--no-access-log", "--log-level", "error"])
    core = max(os.sched_getaffinity(0))
    process = await asyncio.create_subprocess_exec(
        *command, cwd=HERE, preexec_fn=lambda: os.sched_setaffinity(0, {core})
    )
    try:
        while not await asyncio.to_thread(listens, port):
            assert process.returncode is None, f"{side} did not start"
            await asyncio.sleep(0.05)
        yield port
    finally:
        process.terminate()
        await process.wait()


async def events_per_second(port: int) -> float:
    """Deliver on all connections for some seconds."""
    content = body()
    head = f"POST {PATH} HTTP/1.1\r\nhost: 127.0.0.1\r\ncontent-type: application/cloudevents+json\r\n"
    request = f"{head}content-length: {len(content)}\r\n\r\n".encode() + content
    began = time.perf_counter()
    counts = await asyncio.gather(*(_deliver(port, request, began + SECONDS) for _ in range(CONNECTIONS)))
    return sum(counts) / (time.perf_counter() - began)


class Connection(asyncio.Protocol):
    """Delivers one event after the other: a client that cost more than the server would be what is measured."""

    def __init__(self, request: bytes, end: float) -> None:
        self._request, self._end = request, end
        self._answer = b""
        self.delivered = 0
        self.ended: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        transport.write(self._request)

    def data_received(self, data: bytes) -> None:
        self._answer += data
        head, _, body = self._answer.partition(b"\r\n\r\n")
        if len(body) < int(LENGTH.findall(head)[0] if body else 1):
            return
        assert head.startswith(b"HTTP/1.1 200"), head
        self.delivered, self._answer = self.delivered + 1, b""
        if time.perf_counter() < self._end:
            self._transport.write(self._request)
        else:
            self._transport.close()

    def connection_lost(self, exc: Exception | None) -> None:
        if exc is None:
            self.ended.set_result(None)
        else:
            self.ended.set_exception(exc)


async def _deliver(port: int, request: bytes, end: float) -> int:
    loop = asyncio.get_running_loop()
    _, connection = await loop.create_connection(lambda: Connection(request, end), "127.0.0.1", port)
    await connection.ended
    return connection.delivered


async def run() -> list[Comparison]:
    """Measure."""
    with Ports() as ports:
        async with served("tidings_app", ports) as tidings, served("dapr_extension_app", ports) as dapr_extension:

            def side(port: int) -> Side:
                return lambda: events_per_second(port)

            return [
                await compare(
                    "HTTP events/s on one core",
                    {"tidings": side(tidings), "dapr-ext-fastapi": side(dapr_extension)},
                    unit="events/s",
                    bar="at least 2.3x",
                    target=2.3,
                    settings="no broker, no store; uvicorn, 8 connections",
                )
            ]


if __name__ == "__main__":
    for comparison in asyncio.run(run()):
        print(comparison.row())
