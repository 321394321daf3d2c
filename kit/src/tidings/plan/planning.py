"""The whole plan: every app and every type, put together."""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, date, datetime

from tidings.plan import compatibility
from tidings.plan.app import plan_app
from tidings.plan.channels import published
from tidings.plan.model import AppPlan, Plan, Scopes, Topics
from tidings.plan.replays import plan_replay
from tidings.plan.types import grants, plan_type
from tidings.resources.findings import worst_first
from tidings.resources.inventory import Inventory, Key


def plan(inventory: Inventory, today: date | None = None, history: Sequence[Inventory] = ()) -> Plan:
    """Plan everything in the inventory.

    Args:
        inventory: What there is.
        today: Decides which deprecated versions are past their removal; the current day (UTC) by default.
        history: States of before, the oldest first, which changed schemas are held against.

    """
    today = today or datetime.now(UTC).date()
    apps = {app: plan_app(app, inventory, today) for app in sorted(inventory.apps)}
    findings = [
        *inventory.findings,
        *compatibility.check(inventory, history),
        *(each for planned in apps.values() for each in planned.findings),
        *(each for replay in inventory.replays.values() for each in plan_replay(replay, inventory)),
        *(each for event_type in inventory.types.values() for each in plan_type(event_type, inventory, today)),
    ]
    return Plan(
        apps={spelled(app): planned for app, planned in apps.items()},
        findings=tuple(worst_first(findings)),
        channels=topics(apps.values(), inventory),
        scopes=scopes(apps.values()),
    )


def spelled(app: Key) -> str:
    """Write an app's key as plans do: `kitchen`, or `shop/kitchen` outside the namespace `default`."""
    namespace, name = app
    return name if namespace == "default" else f"{namespace}/{name}"


def topics(apps: Iterable[AppPlan], inventory: Inventory) -> Topics:
    """Return every topic that must exist: what an app reads or publishes, and what a type has as its channel."""
    found: dict[str, set[str]] = defaultdict(set)
    for planned in apps:
        for each in (planned.reads, planned.publishes):
            for pubsub, names in each.items():
                found[pubsub].update(names)
    for event_type in inventory.types.values():
        for channel in published(event_type) if grants(event_type, inventory) else ():
            found[channel.pubsub].add(channel.topic)
    return {pubsub: tuple(sorted(names)) for pubsub, names in sorted(found.items())}


def scopes(apps: Iterable[AppPlan]) -> Mapping[str, Scopes]:
    """Return the least rights that the plans need, by component.

    An app that is named with nothing may do nothing; one that is not named at all may do everything (Dapr's rule).
    """
    planned = sorted(apps, key=lambda each: (each.app, each.namespace))
    components = sorted({pubsub for each in planned for pubsub in (*each.reads, *each.publishes)})
    return {
        pubsub: Scopes.of(
            ((each.app, each.publishes.get(pubsub, ())) for each in planned),
            ((each.app, each.reads.get(pubsub, ())) for each in planned),
        )
        for pubsub in components
    }
