"""Impact of changed EventTypes on their consumers: differences, broken subscriptions and advice.

`compatibility` checks a change against the type's compatibility mode; this module reports the effects in any mode.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

from tidings_plan.jsonschema import is_changed, problems
from tidings_plan.readers import Reader, readers
from tidings_plan.resources.eventtype import Compatibility, EventType, Version
from tidings_plan.resources.inventory import Inventory, type_key

Effect = Literal["drafted", "added", "changed", "deprecated", "retired", "removed"]
Side = Literal["readers", "replay"]
_RULED_OUT_BY: Mapping[Side, tuple[str, ...]] = {"readers": ("Forward", "Full"), "replay": ("Backward", "Full")}


@dataclass(frozen=True, slots=True)
class Difference:
    """An incompatible field.

    With side `readers`, today's consumers (old schema) cannot read new events; with side `replay`, the new schema
    cannot read archived events. `forbidden`: the type's compatibility mode rules it out.
    """

    field: str
    message: str
    side: Side
    forbidden: bool

    def to_dict(self) -> dict[str, Any]:
        """Return the difference as `-o json` prints it."""
        return asdict(self)


@dataclass(frozen=True, slots=True)
class Impact:
    """Effect of a change on one version of a type.

    `old` and `new` are the compared states. For an added version, `old` is the previous version, whose consumers are
    expected to migrate.
    """

    event_type: EventType
    version: str
    effect: Effect
    old: Version | None
    new: Version | None
    differences: tuple[Difference, ...] = ()
    readers: tuple[Reader, ...] = ()

    @property
    def consumers(self) -> list[Reader]:
        """Readers that name the type. Only they can break."""
        return [reader for reader in self.readers if not reader.observes]

    @property
    def breaks(self) -> bool:
        """True if a current consumer breaks, or the change violates the type's compatibility mode."""
        if self.effect in ("removed", "retired"):
            return bool(self.consumers)
        if self.effect != "changed":
            return False
        affects_readers = any(difference.side == "readers" for difference in self.differences)
        return any(difference.forbidden for difference in self.differences) or (
            affects_readers and bool(self.consumers)
        )

    @property
    def advice(self) -> tuple[str, ...]:
        """Advice, most important first."""
        return tuple(_advice(self))

    def to_dict(self) -> dict[str, Any]:
        """Return the impact as `-o json` prints it."""
        spec = self.event_type.spec
        return {
            "type": spec.type,
            "version": self.version,
            "namespace": self.event_type.metadata.namespace,
            "owner": {"team": spec.owner.team, "contact": spec.owner.contact},
            "compatibility": spec.compatibility,
            "effect": self.effect,
            "comparedWith": self.old.name if self.old else None,
            "breaks": self.breaks,
            "differences": [difference.to_dict() for difference in self.differences],
            "readers": [reader.to_dict() for reader in self.readers],
            "advice": list(self.advice),
        }


def impacts(inventory: Inventory, history: Sequence[Inventory]) -> list[Impact]:
    """Compare all types with their earlier states, oldest first, and return all changed versions, sorted.

    Changes are relative to the last state; transitive modes also compare schemas with older states.
    """
    if not history:
        return []
    changes: list[Impact] = []
    for key in sorted({type_key(known) for state in (inventory, history[-1]) for known in state.types.values()}):
        earlier = [old for state in history if (old := state.type(key))]
        new = inventory.type(key)
        then, now = _versions(history[-1].type(key)), _versions(new)
        for name in sorted({*then, *now}, key=lambda version: int(version.removeprefix("v"))):
            changes += (
                _impact(new or earlier[-1], name, effect, then, now, earlier, inventory)
                for effect in _effects(then.get(name), now.get(name))
            )
    return changes


def _versions(event_type: EventType | None) -> dict[str, Version]:
    return {version.name: version for version in event_type.spec.versions} if event_type else {}


def _effects(old: Version | None, new: Version | None) -> Iterator[Effect]:
    """Yield the effects on a version. Its state and its schema may have changed together."""
    was_published = old is not None and old.is_published
    if new is None or new.state == "Retired":
        if was_published:
            yield "removed" if new is None else "retired"
        return
    if new.state == "Draft":
        if old is None or is_changed(old.schema, new.schema):
            yield "drafted"
        return
    if old is None or not was_published:
        yield "added"
        return
    if is_changed(old.schema, new.schema):
        yield "changed"
    if new.state == "Deprecated" and (old.state, old.deprecation) != (new.state, new.deprecation):
        yield "deprecated"


def _impact(
    event_type: EventType,
    name: str,
    effect: Effect,
    then: dict[str, Version],
    now: dict[str, Version],
    earlier: Sequence[EventType],
    inventory: Inventory,
) -> Impact:
    new = now.get(name)
    if effect in ("added", "drafted"):
        # An added version has no consumers yet: the consumers of the previous version are affected.
        major = int(name.removeprefix("v"))
        older = [version for version in now.values() if int(version.major) < major and version.is_published]
        before = max(older, key=lambda version: int(version.major), default=None)
        concerned = readers(event_type, before.name, inventory) if before else []
        differences = _differences("None", [before], new) if before else []
        return Impact(event_type, name, effect, before, new, tuple(differences), tuple(concerned))
    old = then[name]
    mode = event_type.spec.compatibility
    compared = [old]
    if mode.endswith("Transitive"):
        compared = [
            version for state in earlier if (version := _versions(state).get(name)) and version.state != "Draft"
        ]
    differing = _differences(mode, compared, new) if effect == "changed" else []
    return Impact(event_type, name, effect, old, new, tuple(differing), tuple(readers(event_type, name, inventory)))


def _differences(mode: Compatibility, olds: Sequence[Version], new: Version | None) -> list[Difference]:
    differences: list[Difference] = []
    for old in olds:
        if new is None or not (_has_schema(old) and _has_schema(new)):
            continue
        sides: tuple[tuple[Side, Any, Any], ...] = (
            ("readers", old.schema, new.schema),
            ("replay", new.schema, old.schema),
        )
        for side, reader, writer in sides:
            forbidden = mode.startswith(_RULED_OUT_BY[side])
            differences += (
                Difference(problem.field, problem.message, side, forbidden) for problem in problems(reader, writer)
            )
    return list(dict.fromkeys(differences))


def _has_schema(version: Version | None) -> bool:
    """Return True if the version has an inline schema. In a cluster, a schema may be an unresolvable file name."""
    return version is not None and isinstance(version.schema, dict)


def _advice(impact: Impact) -> Iterator[str]:
    who = ", ".join(reader.who for reader in impact.consumers)
    if impact.effect in ("added", "drafted"):
        if impact.old and who:
            yield f"Nothing breaks: {who} read {impact.old.name} and can migrate individually."
            yield f"Publish both until {impact.old.name}'s removal; an upcaster converts it to {impact.version}."
        else:
            yield "Nothing breaks: no subscription reads an earlier version."
    elif impact.effect == "deprecated":
        ends = impact.new.deprecation if impact.new else None
        target = f" to {ends.alternative}" if ends and ends.alternative else ""
        until = f" before {ends.removal}" if ends else "; set deprecation.removal"
        yield f"Migrate {who}{target}{until}." if who else f"No subscription names it: retire it{until}."
    elif impact.effect in ("retired", "removed"):
        if who:
            yield f"Keep {impact.version} as Deprecated with a removal date: {who} still read it."
        else:
            yield "No subscription names it: it can be removed."
    else:
        yield from _change(impact, who)


def _change(impact: Impact, who: str) -> Iterator[str]:
    sides = {difference.side for difference in impact.differences}
    following = impact.event_type.spec.next_version
    if not (_has_schema(impact.old) and _has_schema(impact.new)):
        yield "The differences are unknown: one of the states has no schema."
        return
    if not sides:
        yield "Nothing to do: consumers ignore unknown fields, and old events remain readable."
        return
    yield f"Publish the change as {following} alongside {impact.version}, and keep {impact.version} unchanged."
    if "readers" in sides and who:
        yield f"Then {who} can migrate to {following} individually; otherwise each fails on the first new event."
    if "replay" in sides:
        yield (
            f"Or make the new fields optional; an upcaster from {impact.version} to {following} lets the new class "
            "read archived events."
        )
