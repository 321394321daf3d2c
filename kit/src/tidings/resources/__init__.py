"""EventTypes, EventSubscriptions and EventReplays: models, parsing and loading.

`load(paths)` returns an `Inventory`, the input of a plan; `parse_resource(data)` parses a single resource, for example
from the Kubernetes API.
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
