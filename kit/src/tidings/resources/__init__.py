"""EventTypes, EventSubscriptions and EventReplays: their models, and how they are read from files.

`load(paths)` gives an `Inventory`, which a plan is made from; `parse_resource(data)` reads a single resource,
such as one that a cluster's API sent.
"""

from tidings.resources.eventtype import EventType, EventTypeSpec
from tidings.resources.findings import Finding, Location, Severity, has_errors, worst_first
from tidings.resources.inventory import Inventory, Key
from tidings.resources.loading import load
from tidings.resources.model import API_VERSION, Metadata, Resource
from tidings.resources.origin import Origin
from tidings.resources.parsing import parse_resource
from tidings.resources.replay import EventReplay, EventReplaySpec
from tidings.resources.subscription import EventSubscription, EventSubscriptionSpec

__all__ = [
    "API_VERSION",
    "EventReplay",
    "EventReplaySpec",
    "EventSubscription",
    "EventSubscriptionSpec",
    "EventType",
    "EventTypeSpec",
    "Finding",
    "Inventory",
    "Key",
    "Location",
    "Metadata",
    "Origin",
    "Resource",
    "Severity",
    "has_errors",
    "load",
    "parse_resource",
    "worst_first",
]
