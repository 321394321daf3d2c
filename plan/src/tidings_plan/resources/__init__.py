"""EventTypes, EventSubscriptions and EventReplays: models, parsing and loading.

`load(paths)` returns an `Inventory`, the input of a plan; `parse_resource(data)` parses a single resource, for example
from the Kubernetes API.
"""

from tidings_plan.resources.eventtype import EventType, EventTypeSpec
from tidings_plan.resources.findings import Finding, Location, Severity, has_errors, worst_first
from tidings_plan.resources.inventory import Inventory, Key
from tidings_plan.resources.loading import contracts_folders, load
from tidings_plan.resources.model import API_VERSION, Metadata, Resource
from tidings_plan.resources.parsing import parse_resource
from tidings_plan.resources.replay import EventReplay, EventReplaySpec
from tidings_plan.resources.source_location import Origin
from tidings_plan.resources.subscription import EventSubscription, EventSubscriptionSpec, Selection, selections

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
    "Selection",
    "Severity",
    "contracts_folders",
    "has_errors",
    "load",
    "parse_resource",
    "selections",
    "worst_first",
]
