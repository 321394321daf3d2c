"""Warn of namespaces that share a broker account although no EventType's `access` connects them.

Topics have no namespace: on a shared account, events reach the subscribers of both namespaces, and apps with the same
id share their consumers. Plans cannot isolate such namespaces, because anyone who can create a Component with that
account can publish anything. Separate accounts can, so these findings are warnings.

Messages do not name resources of the other namespace, which their readers may not be allowed to know.
"""

from collections.abc import Iterator

from tidings_plan.resources.eventtype import EventType
from tidings_plan.resources.findings import Finding
from tidings_plan.resources.inventory import Inventory, app_key, type_key
from tidings_plan.resources.subscription import EventSubscription

RULE = "shared-broker-account"
_FIX = "Use a separate broker account per namespace (docs/explanation/security.md, What separates namespaces)"


def of_type(event_type: EventType, inventory: Inventory) -> Iterator[Finding]:
    """Yield a warning if another namespace has a type on the same topic of the same account."""
    home = event_type.metadata.namespace
    for topic in dict.fromkeys(event_type.spec.topic(version) for version in event_type.spec.versions):
        types = (other for other in inventory.types_on(topic) if type_key(other) != type_key(event_type))
        if any(inventory.is_neighbour(home, other.metadata.namespace) for other in types):
            message = (
                f"Another namespace has a type on the topic {topic} of the same broker account: consumers receive both"
            )
            at = ("spec", "type")
            yield event_type.finding("warning", RULE, message, f"{_FIX}, or rename the type.", at=at)
            return


def of_subscription(subscription: EventSubscription, inventory: Inventory) -> Iterator[Finding]:
    """Yield a warning if another namespace has an app with the same id on the same account."""
    home, app = app_key(subscription)
    if any(inventory.is_neighbour(home, other) for other in inventory.namespaces_of(app)):
        message = f"Another namespace has an app {app} on the same broker account: they receive each other's events"
        at = ("spec", "consumer", "appId")
        yield subscription.finding("warning", RULE, message, f"{_FIX}, or use another app id.", at=at)
