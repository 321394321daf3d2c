"""Serves Prometheus metrics on a separate port, so that clients of the service cannot read them."""

import socket
from collections.abc import Iterator
from contextlib import contextmanager

import prometheus_client


@contextmanager
def served(host: str, port: int | None) -> Iterator[None]:
    """Serve `/metrics` within the context, at all addresses if `host` is empty; do nothing if `port` is None.

    Raises:
        OSError: The port is in use.

    """
    if port is None:
        yield
        return
    everywhere = "::" if socket.has_dualstack_ipv6() else "0.0.0.0"  # noqa: S104 - chosen by the caller
    prometheus_client.disable_created_metrics()  # type: ignore[no-untyped-call]
    server, thread = prometheus_client.start_http_server(port, host or everywhere)
    try:
        yield
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
