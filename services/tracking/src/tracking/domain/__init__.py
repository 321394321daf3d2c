"""Domain rules of tracking. Pure: no I/O and no clock; `now` is a parameter."""

from tracking.domain.progress import (
    DRIVER,
    Content,
    Driver,
    Entry,
    Fact,
    Latest,
    Line,
    OrderCounts,
    ReadModel,
    Stage,
    Totals,
    TrackedOrder,
)

__all__ = [
    "DRIVER",
    "Content",
    "Driver",
    "Entry",
    "Fact",
    "Latest",
    "Line",
    "OrderCounts",
    "ReadModel",
    "Stage",
    "Totals",
    "TrackedOrder",
]
