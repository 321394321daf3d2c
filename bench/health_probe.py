"""Ask for /healthz of a port every 20 ms until standard input says something; print the seconds of each answer."""

from __future__ import annotations

import contextlib
import http.client
import select
import sys
import time

PAUSE = 0.02


def main(port: int) -> None:
    is_up = False
    while not select.select([sys.stdin], [], [], PAUSE)[0]:
        begun = time.monotonic()
        with contextlib.nullcontext() if is_up else contextlib.suppress(ConnectionRefusedError):
            check(port)
            is_up = True
            print(time.monotonic() - begun)


def check(port: int) -> None:
    """Ask once, over a connection of its own, as a kubelet does."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    with contextlib.closing(connection):
        connection.request("GET", "/healthz")
        answer = connection.getresponse()
        if (text := answer.read()) and answer.status != http.client.OK:
            raise SystemExit(f"/healthz: {answer.status} {text.decode()}")


if __name__ == "__main__":
    main(int(sys.argv[1]))
