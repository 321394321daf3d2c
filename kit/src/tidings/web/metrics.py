"""Serves Prometheus metrics on a separate port, so that clients of the service cannot read them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import prometheus_client


@contextmanager
def served(host: str, port: int | None) -> Iterator[None]:
    """Serve `/metrics` within the context; do nothing if `port` is None.

    Raises:
        OSError: The port is in use.

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
