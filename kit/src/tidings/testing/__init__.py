"""Everything for testing services without Dapr, and with it.

In memory: `MemoryBroker`, `MemorySidecar` and `MemoryStore` behave as daprd with a broker and a store does, at once and
without chance, so that a whole system of services runs in one test; they fail on request, too.

`tidings_cli.testing.fixtures` gives pytest the real daprd, NATS, Redis and PostgreSQL on free ports. One suite
(tests/conformance) holds the twins and the real programs to the same behaviour.
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
