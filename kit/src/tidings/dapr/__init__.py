"""Interface to a Dapr sidecar: publishing and state.

`DaprSidecar` implements it over gRPC, `tidings.testing.MemorySidecar` in memory. The suite tests/conformance verifies
that both behave as described here.
"""

from tidings.dapr.port import Delete, Item, Operation, Sidecar, Upsert

__all__ = ["Delete", "Item", "Operation", "Sidecar", "Upsert"]
