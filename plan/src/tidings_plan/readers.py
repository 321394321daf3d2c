"""Readers of a version of an event type, with their contacts."""

from dataclasses import asdict, dataclass
from typing import Any

from tidings_plan.resources.eventtype import EventType
from tidings_plan.resources.inventory import Inventory, app_key
from tidings_plan.resources.subscription import Selection


@dataclass(frozen=True, slots=True, order=True)
class Reader:
    """A subscription that reads a version. With `observes`, it reads by a pattern and cannot break."""

    app: str
    subscription: str
    namespace: str
    owner: str = ""
    contact: str = ""
    criticality: str = "Normal"
    observes: bool = False

    def to_dict(self) -> dict[str, Any]:
        """Return the reader as `-o json` prints it."""
        return asdict(self)

    @property
    def who(self) -> str:
        """Name for messages: `kitchen-order-confirmed (app kitchen)`."""
        return f"{self.subscription} (app {self.app})"


def readers(event_type: EventType, version: str, inventory: Inventory) -> list[Reader]:
    """Return the readers of a version: consumers, which name it, then observers, each sorted."""
    consumers = inventory.consumers(event_type)
    # A wildcard excludes the types that its app names: within an app, an event goes to one subscription.
    by_name = {app_key(consumer) for consumer in consumers}
    named = [_reader(consumer) for consumer in consumers if version in consumer.events.versions]
    observing = [_reader(observer) for observer in inventory.observers(event_type) if app_key(observer) not in by_name]
    return [*sorted(named), *sorted(observing)]


def _reader(selection: Selection) -> Reader:
    spec = selection.spec
    return Reader(
        app=spec.consumer.app_id,
        subscription=selection.metadata.name,
        namespace=selection.metadata.namespace,
        owner=spec.consumer.owner,
        contact=spec.consumer.contact,
        criticality=spec.consumer.criticality,
        observes=selection.events.pattern is not None,
    )
