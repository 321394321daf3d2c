"""Namespaces that nothing connects and that share an account on a broker all the same.

Topics carry no namespace. There, what is published to a topic reaches the readers of both namespaces, and two apps of
one id share their consumers. No rule of the plan can keep such namespaces apart, so these are warnings: whoever may
write a Component with that account may publish whatever they like. What keeps them apart is an account for each.

A message does not name what is in the other namespace: whoever reads it may have no right to.
"""

from collections.abc import Iterator

from tidings.resources.eventtype import EventType
from tidings.resources.findings import Finding
from tidings.resources.inventory import Inventory, app_key, type_key
from tidings.resources.subscription import EventSubscription

RULE = "shared-broker-account"
_MEND = "Give each namespace a broker account of its own (docs/explanation/security.md, What separates namespaces)"


def of_type(event_type: EventType, inventory: Inventory) -> Iterator[Finding]:
    """Yield a warning where another namespace has a type on the same topic of the same account."""
    home = event_type.metadata.namespace
    for topic in dict.fromkeys(event_type.spec.topic(each) for each in event_type.spec.versions):
        others = (other for other in inventory.types_on(topic) if type_key(other) != type_key(event_type))
        if any(inventory.is_neighbour(home, other.metadata.namespace) for other in others):
            message = f"Another namespace has a type on the topic {topic} of the same broker account: readers get both"
            at = ("spec", "type")
            yield event_type.finding("warning", RULE, message, f"{_MEND}, or rename the type.", at=at)
            return


def of_subscription(subscription: EventSubscription, inventory: Inventory) -> Iterator[Finding]:
    """Yield a warning where another namespace has an app of the same id on the same account."""
    home, app = app_key(subscription)
    if any(inventory.is_neighbour(home, other) for other in inventory.namespaces_of(app)):
        message = f"Another namespace has an app {app} on the same broker account: each gets events of the other"
        at = ("spec", "consumer", "appId")
        yield subscription.finding("warning", RULE, message, f"{_MEND}, or give the app another id.", at=at)
