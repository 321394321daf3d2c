"""Test doubles for services.

`MemoryBroker`, `MemorySidecar` and `MemoryStore` behave like daprd with a broker and a state store, synchronously and
deterministically, so that one test can run a whole system of services. They can inject faults.

`tidings_cli.testing.fixtures` provides pytest fixtures for the real daprd, NATS, Redis and PostgreSQL on free ports.
The suite tests/conformance runs on the test doubles and on the real programs.
"""

from tidings.testing.asgi import lifespan, post
from tidings.testing.broker import Delivery, MemoryBroker, Unsettled
from tidings.testing.clock import Clock
from tidings.testing.faults import Crash, Faults
from tidings.testing.sidecar import MemorySidecar
from tidings.testing.store import MemoryStore

__all__ = [
    "Clock",
    "Crash",
    "Delivery",
    "Faults",
    "MemoryBroker",
    "MemorySidecar",
    "MemoryStore",
    "Unsettled",
    "lifespan",
    "post",
]
