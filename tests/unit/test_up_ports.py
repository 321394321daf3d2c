"""Ports: fixed ones are checked, and free ones are unused."""

import os
import socket
from collections.abc import Iterator

import pytest

from tidings_cli.up import ports
from tidings_cli.up.errors import PortTaken


@pytest.fixture
def taken() -> Iterator[int]:
    with ports.block() as free, socket.socket() as server:
        port = next(free)
        server.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # as servers do: an old connection is no bar
        server.bind((ports.HOST, port))
        server.listen()
        yield port


def test_a_taken_port_is_named_with_its_holder_and_the_way_out(taken: int) -> None:
    with pytest.raises(PortTaken) as caught:
        ports.check({"orders": taken})
    assert str(caught.value).startswith(f"port {taken} (orders) is taken by ")
    assert f"(pid {os.getpid()}: " in str(caught.value)
    assert "--port-base 9000" in str(caught.value)


def test_two_parts_that_want_one_port_are_named() -> None:
    with pytest.raises(PortTaken, match="port 8001 is assigned to both orders and menu"):
        ports.check({"orders": 8001, "menu": 8001})


def test_two_runs_side_by_side_get_different_ports() -> None:
    with ports.block() as one, ports.block() as other:
        own = [next(one) for _ in range(100)]
        theirs = [next(other) for _ in range(100)]
    assert not set(own) & set(theirs)
    assert max(own + theirs) < 32768  # the kernel lends none of them to a connection


def test_a_port_in_use_is_not_allocated(taken: int) -> None:
    assert not ports.is_free(taken)


@pytest.mark.parametrize(
    ("base", "expected"),
    [
        (None, {"orders": 8001, "orders-1": 20002, "mail": 20001, "nats": 20003}),
        (9000, {"orders": 9000, "orders-1": 20002, "mail": 9001, "nats": 20003}),
    ],
)
def test_assign(base: int | None, expected: dict[str, int]) -> None:
    requested = {"orders": 8001, "orders-1": None, "mail": 20001, "nats": None}
    free = [20001, 20002, 20003]  # 20001 is asked for by name, so nobody else gets it
    assert ports.assign(requested, free, base) == expected
