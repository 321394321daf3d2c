"""The port to a Dapr sidecar: publishing and state, nothing else of Dapr is needed by the kit.

`DaprSidecar` is the real one, over gRPC; `tidings.testing.MemorySidecar` is its in-memory twin.
One conformance suite (`tidings.testing.conformance`) holds both to the behaviour described here.
"""

from tidings.sidecar.port import Delete, Item, Operation, Sidecar, Upsert

__all__ = ["Delete", "Item", "Operation", "Sidecar", "Upsert"]
