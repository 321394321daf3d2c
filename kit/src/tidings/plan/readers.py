"""Who reads a version of an event type, and whom to ask about it."""

from dataclasses import asdict, dataclass
from typing import Any

from tidings.resources.eventtype import EventType
from tidings.resources.inventory import Inventory, app_key
from tidings.resources.subscription import EventSubscription


@dataclass(frozen=True, slots=True, order=True)
class Reader:
    """One subscription's reading of one version. `observes`: by a pattern, as an archive does; it breaks on nothing."""

    app: str
    subscription: str
    namespace: str
    owner: str = ""
    contact: str = ""
    criticality: str = "Normal"
    observes: bool = False

    def to_dict(self) -> dict[str, Any]:
        """Return what `-o json` prints."""
        return asdict(self)

    @property
    def who(self) -> str:
        """Name it as messages do: `kitchen-order-confirmed (app kitchen)`."""
        return f"{self.subscription} (app {self.app})"


def readers(event_type: EventType, version: str, inventory: Inventory) -> list[Reader]:
    """Return who reads that version, sorted: consumers, which name it, then observers."""
    consumers = inventory.consumers(event_type)
    # What an app reads by name its wildcard leaves out: an event goes to one subscription of an app.
    by_name = {app_key(each) for each in consumers}
    named = [_reader(each) for each in consumers if version in each.spec.versions.wanted]
    watching = [_reader(each) for each in inventory.observers(event_type) if app_key(each) not in by_name]
    return [*sorted(named), *sorted(watching)]


def _reader(subscription: EventSubscription) -> Reader:
    spec = subscription.spec
    return Reader(
        app=spec.consumer.app_id,
        subscription=subscription.metadata.name,
        namespace=subscription.metadata.namespace,
        owner=spec.consumer.owner,
        contact=spec.consumer.contact,
        criticality=spec.consumer.criticality,
        observes=spec.is_wildcard,
    )
