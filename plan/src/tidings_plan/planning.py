"""Plan all apps, types and replays of an inventory."""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, date, datetime

from tidings_plan import compatibility
from tidings_plan.app import plan_app
from tidings_plan.channels import published
from tidings_plan.model import AppPlan, Plan, Scopes, Topics
from tidings_plan.replays import plan_replay
from tidings_plan.resources.findings import worst_first
from tidings_plan.resources.inventory import Inventory, Key
from tidings_plan.types import grants, plan_type


def plan(inventory: Inventory, today: date | None = None, history: Sequence[Inventory] = ()) -> Plan:
    """Plan everything in the inventory.

    Args:
        inventory: All resources.
        today: Date for deprecations and removals; the current date (UTC) by default.
        history: Earlier states, oldest first, to compare changed schemas with.

    """
    today = today or datetime.now(UTC).date()
    apps = {app: plan_app(app, inventory, today) for app in sorted(inventory.apps)}
    findings = [
        *inventory.findings,
        *compatibility.check(inventory, history),
        *(finding for planned in apps.values() for finding in planned.findings),
        *(finding for replay in inventory.replays.values() for finding in plan_replay(replay, inventory)),
        *(finding for event_type in inventory.types.values() for finding in plan_type(event_type, inventory, today)),
    ]
    return Plan(
        apps={spelled(app): planned for app, planned in apps.items()},
        findings=tuple(worst_first(findings)),
        channels=topics(apps.values(), inventory),
        scopes=scopes(apps.values()),
    )


def spelled(app: Key) -> str:
    """Format an app's key: `kitchen`, or `shop/kitchen` outside the namespace `default`."""
    namespace, name = app
    return name if namespace == "default" else f"{namespace}/{name}"


def topics(apps: Iterable[AppPlan], inventory: Inventory) -> Topics:
    """Return all topics that must exist: those that apps consume or publish to, and the channels of types."""
    by_component: dict[str, set[str]] = defaultdict(set)
    for planned in apps:
        for used in (planned.reads, planned.publishes):
            for pubsub, names in used.items():
                by_component[pubsub].update(names)
    for event_type in inventory.types.values():
        for channel in published(event_type) if grants(event_type, inventory) else ():
            by_component[channel.pubsub].add(channel.topic)
    return {pubsub: tuple(sorted(names)) for pubsub, names in sorted(by_component.items())}


def scopes(apps: Iterable[AppPlan]) -> Mapping[str, Scopes]:
    """Return the minimal scopes that the plans need, by component.

    Every app is listed: in Dapr, an app with an empty list may use no topic, and an unlisted app may use all of them.
    """
    planned = sorted(apps, key=lambda app: (app.app, app.namespace))
    components = sorted({pubsub for app in planned for pubsub in (*app.reads, *app.publishes)})
    return {
        pubsub: Scopes.of(
            ((app.app, app.publishes.get(pubsub, ())) for app in planned),
            ((app.app, app.reads.get(pubsub, ())) for app in planned),
        )
        for pubsub in components
    }
