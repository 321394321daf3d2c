"""A changed EventType against what it was: what breaks, and whose subscriptions.

Modes, per version (a new major version may differ as it likes, it travels on its own topic):
- Backward: who holds the new schema reads events written with the old one (archive, replay).
- Forward: who holds the old schema, the consumers of today, reads events written with the new one.
- Full: both. `...Transitive`: against every state in the history, not only the last.
"""

from collections.abc import Iterator, Sequence

from tidings.plan.jsonschema import Problem, problems
from tidings.resources.eventtype import EventType, Version
from tidings.resources.findings import Finding
from tidings.resources.inventory import Inventory, type_key
from tidings.resources.subscription import EventSubscription


def check(inventory: Inventory, history: Sequence[Inventory]) -> list[Finding]:
    """Compare all types with the states they had, the oldest first; of no history, nothing is said."""
    if not history:
        return []
    findings: list[Finding] = []
    for gone in history[-1].types.values():
        if inventory.type(type_key(gone)) is None:
            findings += _removed_type(gone, inventory)
    for new in inventory.types.values():
        earlier = [old for each in history if (old := each.type(type_key(new)))]
        findings += check_type(new, earlier, inventory.consumers(new))
    return findings


def check_type(
    new: EventType, earlier: Sequence[EventType], consumers: Sequence[EventSubscription]
) -> Iterator[Finding]:
    """Compare a type with its earlier states, the oldest first, and name the subscriptions that a change breaks."""
    mode = new.spec.compatibility
    compared = earlier if mode.endswith("Transitive") else earlier[-1:]
    for old in compared:
        for version in old.spec.versions:
            readers = _readers(consumers, version)
            now = next((each for each in new.spec.versions if each.name == version.name), None)
            if now is None:
                yield from _removed_version(new, version, readers)
            elif mode != "None" and version.state in ("Active", "Deprecated") and now.state != "Retired":
                yield from _changed(new, version, now, readers)


def _changed(new: EventType, old: Version, now: Version, readers: list[EventSubscription]) -> Iterator[Finding]:
    mode = new.spec.compatibility
    if not isinstance(old.schema, dict) or not isinstance(now.schema, dict):
        return  # what has no schema cannot be compared; that it has none is said elsewhere
    place = next(index for index, each in enumerate(new.spec.versions) if each is now)
    at = ("spec", "versions", place, "schema")
    next_major = f"v{1 + max(int(each.major) for each in new.spec.versions)}"
    if mode.startswith(("Forward", "Full")):
        for problem in problems(old.schema, now.schema):
            message = f"{new.spec.type} {now.name} does not suit who reads it today{_named(readers)}: {_spell(problem)}"
            mend = f"Keep the field as it was, or publish the change as {next_major} beside {now.name}."
            yield new.finding("error", "incompatible-schema", message, mend, at=at)
    if mode.startswith(("Backward", "Full")):
        for problem in problems(now.schema, old.schema):
            message = f"{new.spec.type} {now.name} cannot read events of before{_named(readers)}: {_spell(problem)}"
            mend = f"Make what is new optional, or publish the change as {next_major} beside {now.name}."
            yield new.finding("error", "incompatible-schema", message, mend, at=at)


def _removed_version(new: EventType, old: Version, readers: list[EventSubscription]) -> Iterator[Finding]:
    if old.state in ("Active", "Deprecated"):
        message = f"{new.spec.type} {old.name} was {old.state} and is gone{_named(readers)}"
        mend = "Keep it: Deprecated with a removal date first, then Retired."
        at = ("spec", "versions")
        yield new.finding("error" if readers else "warning", "version-removed", message, mend, at=at)


def _removed_type(old: EventType, inventory: Inventory) -> Iterator[Finding]:
    readers = inventory.consumers(old)
    if readers:
        message = f"{old.spec.type} is gone{_named(readers)}"
        mend = "Keep the EventType until nobody reads it: deprecate its versions first."
        yield old.finding("error", "type-removed", message, mend)


def _readers(consumers: Sequence[EventSubscription], version: Version) -> list[EventSubscription]:
    return [each for each in consumers if version.name in each.spec.versions.wanted]


def _named(readers: Sequence[EventSubscription]) -> str:
    names = [f"{each.metadata.name} (app {each.spec.consumer.app_id})" for each in readers]
    return f" and breaks {', '.join(names)}" if names else ""


def _spell(problem: Problem) -> str:
    return f"{problem.field} {problem.message}"
