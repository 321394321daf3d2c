"""What a change of EventTypes means for those who read them: what differs, who breaks, and what to do about it.

`compatibility` says whether a change is allowed by the type's own rule; this says what it does, whatever the rule.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from tidings.plan.jsonschema import is_changed, problems
from tidings.plan.readers import Reader, readers
from tidings.resources.eventtype import Compatibility, EventType, Version
from tidings.resources.inventory import Inventory, type_key

Effect = Literal["drafted", "added", "changed", "deprecated", "retired", "removed"]
Side = Literal["readers", "replay"]
_PUBLISHED = ("Active", "Deprecated")
_RULED_OUT_BY: Mapping[Side, tuple[str, ...]] = {"readers": ("Forward", "Full"), "replay": ("Backward", "Full")}


@dataclass(frozen=True, slots=True)
class Difference:
    """One field over which somebody trips.

    `readers`: today's consumers, which hold the old schema, over new events. `replay`: who holds the new schema, over
    events that are archived. `forbidden`: the type's compatibility rules it out.
    """

    field: str
    message: str
    side: Side
    forbidden: bool

    def to_dict(self) -> dict[str, Any]:
        """Return what `-o json` prints."""
        return {"field": self.field, "message": self.message, "side": self.side, "forbidden": self.forbidden}


@dataclass(frozen=True, slots=True)
class Impact:
    """What becomes of one version of one type.

    `old` and `new` are the states compared; for a version that is new, `old` is the version before it, which
    its readers come from.
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
        """The readers that name the type: those that can break."""
        return [each for each in self.readers if not each.observes]

    @property
    def breaks(self) -> bool:
        """Whether somebody who reads it today stops working, or the type's rule is broken."""
        if self.effect in ("removed", "retired"):
            return bool(self.consumers)
        if self.effect != "changed":
            return False
        trips = any(each.side == "readers" for each in self.differences)
        return any(each.forbidden for each in self.differences) or (trips and bool(self.consumers))

    @property
    def advice(self) -> tuple[str, ...]:
        """What to do, most important first."""
        return tuple(_advice(self))

    def to_dict(self) -> dict[str, Any]:
        """Return what `-o json` prints."""
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
            "differences": [each.to_dict() for each in self.differences],
            "readers": [each.to_dict() for each in self.readers],
            "advice": list(self.advice),
        }


def impacts(inventory: Inventory, history: Sequence[Inventory]) -> list[Impact]:
    """Compare all types with the states they had, the oldest first, and return every changed version, sorted.

    The last state decides what has changed; a transitive compatibility also holds the schemas against older ones.
    """
    if not history:
        return []
    now = {type_key(each): each for each in inventory.types.values()}
    before = {type_key(each): each for each in history[-1].types.values()}
    found: list[Impact] = []
    for key in sorted({*now, *before}):
        earlier = [old for each in history if (old := each.type(key))]
        found += _of_type(inventory.type(key), earlier, inventory, is_known=key in before)
    return found


def next_version(event_type: EventType) -> str:
    """Return the name of the next major version."""
    return f"v{1 + max(int(each.major) for each in event_type.spec.versions)}"


def _of_type(
    new: EventType | None, earlier: Sequence[EventType], inventory: Inventory, *, is_known: bool
) -> Iterator[Impact]:
    old = earlier[-1] if is_known else None
    event_type = new or earlier[-1]
    then, now = _versions(old), _versions(new)
    for name in sorted({*then, *now}, key=lambda each: int(each.removeprefix("v"))):
        for effect in _effects(then.get(name), now.get(name)):
            yield _impact(event_type, name, effect, then, now, earlier, inventory)


def _versions(event_type: EventType | None) -> dict[str, Version]:
    return {each.name: each for each in event_type.spec.versions} if event_type else {}


def _effects(old: Version | None, new: Version | None) -> Iterator[Effect]:
    """Yield what has happened to a version: its life and its schema may have changed at once."""
    was_published = old is not None and old.state in _PUBLISHED
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
        # A version has no readers on its first day: who is concerned reads the one before it.
        before = _before(name, now)
        concerned = readers(event_type, before.name, inventory) if before else []
        found = _differences("None", [before], new) if before else []
        return Impact(event_type, name, effect, before, new, tuple(found), tuple(concerned))
    old = then[name]
    mode = event_type.spec.compatibility
    compared = [old]
    if mode.endswith("Transitive"):
        compared = [version for each in earlier if (version := _versions(each).get(name)) and version.state != "Draft"]
    differing = _differences(mode, compared, new) if effect == "changed" else []
    return Impact(event_type, name, effect, old, new, tuple(differing), tuple(readers(event_type, name, inventory)))


def _before(name: str, versions: dict[str, Version]) -> Version | None:
    """Return the published version before this one, else None."""
    major = int(name.removeprefix("v"))
    older = [each for each in versions.values() if int(each.major) < major and each.state in _PUBLISHED]
    return max(older, key=lambda each: int(each.major), default=None)


def _differences(mode: Compatibility, olds: Sequence[Version], new: Version | None) -> list[Difference]:
    found: list[Difference] = []
    for old in olds:
        if new is None or not (_is_told(old) and _is_told(new)):
            continue
        for side, reader, writer in _both_sides(old.schema, new.schema):
            forbidden = mode.startswith(_RULED_OUT_BY[side])
            found += (Difference(each.field, each.message, side, forbidden) for each in problems(reader, writer))
    return list(dict.fromkeys(found))


def _is_told(version: Version | None) -> bool:
    """Whether there is a schema to compare: a cluster may hold the name of a file, which nobody can read there."""
    return version is not None and isinstance(version.schema, dict)


def _both_sides(old: Any, new: Any) -> tuple[tuple[Side, Any, Any], ...]:
    """Return who reads with which schema what was written with which."""
    return (("readers", old, new), ("replay", new, old))


def _advice(impact: Impact) -> Iterator[str]:
    who = ", ".join(each.who for each in impact.consumers)
    if impact.effect in ("added", "drafted"):
        if impact.old and who:
            yield f"Nothing breaks: {who} read {impact.old.name}, and may move one by one."
            yield f"Publish both until {impact.old.name}'s removal; an upcaster reads it as {impact.version}."
        else:
            yield "Nothing breaks: nobody reads an earlier version."
    elif impact.effect == "deprecated":
        yield from _leave(impact, who)
    elif impact.effect in ("retired", "removed"):
        yield from _keep(impact, who)
    else:
        yield from _change(impact, who)


def _leave(impact: Impact, who: str) -> Iterator[str]:
    ends = impact.new.deprecation if impact.new else None
    where = f" to {ends.alternative}" if ends and ends.alternative else ""
    until = f" before {ends.removal}" if ends else "; name a date under deprecation.removal"
    yield f"Move {who}{where}{until}." if who else f"Nobody names it: retire it{until}."


def _keep(impact: Impact, who: str) -> Iterator[str]:
    if who:
        yield f"Keep {impact.version}, Deprecated with a removal date, until nobody reads it: {who} still do."
    else:
        yield "No subscription names it: it may go."


def _change(impact: Impact, who: str) -> Iterator[str]:
    sides = {each.side for each in impact.differences}
    following = next_version(impact.event_type)
    if not (_is_told(impact.old) and _is_told(impact.new)):
        yield "What differs cannot be told: before or now, there is no schema to compare."
        return
    if not sides:
        yield "Nothing to do: readers skip what they do not know, and old events can still be read."
        return
    yield f"Publish the change as {following} beside {impact.version}, and keep {impact.version} as it was."
    if "readers" in sides and who:
        yield f"Then {who} move to {following} one by one; without that, each trips over the first new event."
    if "replay" in sides:
        yield (
            f"Or make what is new optional; an upcaster {impact.version} to {following} lets the new class read "
            "events that are archived."
        )
