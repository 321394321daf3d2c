"""The port to a Dapr sidecar: publishing and state, nothing else of Dapr is needed by the kit.

`DaprSidecar` is the real one, over gRPC; `tidings.testing.MemorySidecar` is its in-memory twin.
One conformance suite (tests/conformance) holds both to the behaviour described here.
"""

from tidings.dapr.port import Delete, Item, Operation, Sidecar, Upsert

__all__ = ["Delete", "Item", "Operation", "Sidecar", "Upsert"]
