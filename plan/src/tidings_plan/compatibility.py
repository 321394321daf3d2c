"""Compare an EventType with its earlier states and report breaking changes and the affected subscriptions.

Modes apply within a major version; a new major version has its own topic and may differ freely:
- Backward: the new schema reads events written with the old schema (archive, replay).
- Forward: the old schema, which today's consumers hold, reads events written with the new schema.
- Full: both. `...Transitive`: compared with every state in the history, not only the last one.
"""

from collections.abc import Iterator, Sequence

from tidings_plan import personal
from tidings_plan.jsonschema import problems
from tidings_plan.resources.eventtype import EventType, Version
from tidings_plan.resources.findings import Finding, Severity
from tidings_plan.resources.inventory import Inventory, type_key
from tidings_plan.resources.subscription import Selection


def check(inventory: Inventory, history: Sequence[Inventory]) -> list[Finding]:
    """Compare all types with their earlier states, oldest first. Without history, return no findings."""
    if not history:
        return []
    findings: list[Finding] = []
    for removed in history[-1].types.values():
        if inventory.type(type_key(removed)) is None and (readers := inventory.consumers(removed)):
            message = f"{removed.spec.type} is removed{_named(readers)}"
            fix = "Restore the EventType until it has no consumers; deprecate its versions first."
            findings.append(removed.finding("error", "type-removed", message, fix))
    for new in inventory.types.values():
        earlier = [old for state in history if (old := state.type(type_key(new)))]
        findings += check_type(new, earlier, inventory.consumers(new))
    return findings


def check_type(new: EventType, earlier: Sequence[EventType], consumers: Sequence[Selection]) -> Iterator[Finding]:
    """Compare a type with its earlier states, oldest first, and name the subscriptions that a change breaks."""
    mode = new.spec.compatibility
    compared = earlier if mode.endswith("Transitive") else earlier[-1:]
    for old in compared:
        for version in old.spec.versions:
            readers = [consumer for consumer in consumers if version.name in consumer.events.versions]
            now = new.spec.version(version.name)
            if not version.is_published:
                continue
            if now is None:
                message = f"{new.spec.type} {version.name} was {version.state} and is removed{_named(readers)}"
                fix = "Restore it: set state Deprecated with a removal date first, then Retired."
                severity: Severity = "error" if readers else "warning"
                yield new.finding(severity, "version-removed", message, fix, at=("spec", "versions"))
            elif mode != "None" and now.state != "Retired":
                yield from _changed(new, version, now, readers)


def _changed(new: EventType, old: Version, now: Version, readers: list[Selection]) -> Iterator[Finding]:
    mode = new.spec.compatibility
    if not isinstance(old.schema, dict) or not isinstance(now.schema, dict):
        return  # a missing schema has a finding of its own
    position = next(index for index, candidate in enumerate(new.spec.versions) if candidate is now)
    at = ("spec", "versions", position, "schema")
    yield from personal.check_removed(new, position, old)
    for direction, reader, writer, verdict, remedy in (
        ("Forward", old.schema, now.schema, "is incompatible with its consumers", "Restore the field"),
        ("Backward", now.schema, old.schema, "cannot read earlier events", "Make the new field optional"),
    ):
        for problem in problems(reader, writer) if mode.startswith((direction, "Full")) else ():
            message = f"{new.spec.type} {now.name} {verdict}{_named(readers)}: {problem.field} {problem.message}"
            fix = f"{remedy}, or publish the change as {new.spec.next_version} alongside {now.name}."
            yield new.finding("error", "incompatible-schema", message, fix, at=at)


def _named(readers: Sequence[Selection]) -> str:
    names = [f"{reader.metadata.name} (app {reader.spec.consumer.app_id})" for reader in readers]
    return f" and breaks {', '.join(names)}" if names else ""
