"""Metrics on a port of their own: who may ask a service for something need not see how it is doing."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import prometheus_client


@contextmanager
def served(host: str, port: int | None) -> Iterator[None]:
    """Serve `/metrics` there while the context lasts; nowhere without a port.

    Raises:
        OSError: The port is taken.

    """
    if port is None:
        yield
        return
    server, thread = prometheus_client.start_http_server(port, host)
    try:
        yield
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
