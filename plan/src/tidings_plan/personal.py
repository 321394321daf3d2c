"""Personal data: which fields of an event are marked, and whether the marks are complete.

`x-data-classification` marks a personal field, which the SDK encrypts; `x-data-subject` marks the one field with the
pseudonym of the person whose key is used. Filters and routes are evaluated on encrypted events, so they cannot read a
personal field.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tidings.marks import CLASSIFICATION as PERSONAL
from tidings.marks import DATA_SUBJECT as SUBJECT
from tidings.messages import personal as marks
from tidings_plan import cel, jsonschema
from tidings_plan.channels import Channel
from tidings_plan.conditions import check_shared, rules_of
from tidings_plan.resources.eventtype import EventType, Version
from tidings_plan.resources.findings import Finding
from tidings_plan.resources.inventory import Inventory, requested_type
from tidings_plan.resources.subscription import Selection

ITEM, ANY = "[]", "*"
"""Steps of a path for every item of an array, and for every property that has no name in the schema."""
MAX_VISITS = 20_000
_MAX_DEPTH = 256
# What the mask `***`, which replaces the value of a forgotten person, would not satisfy.
_CONSTRAINTS = ("pattern", "format", "enum", "const", "minLength", "maxLength")

Path = tuple[str, ...]


class TooComplex(ValueError):
    """The schema has more paths than are examined."""


@dataclass(frozen=True, slots=True)
class Marked:
    """A marked field: its path in the data, its path in the schema document and its schema."""

    path: Path
    at: tuple[str | int, ...]
    schema: Mapping[str, Any]

    @property
    def is_personal(self) -> bool:
        return marks.is_set(self.schema.get(PERSONAL))

    @property
    def is_subject(self) -> bool:
        return marks.is_set(self.schema.get(SUBJECT))

    def __str__(self) -> str:
        """Return the path as messages write it: `data.customer.name`, `data.lines[].note`."""
        return "data" + "".join(step if step == ITEM else f".{step}" for step in self.path)


def marked(schema: Any) -> list[Marked]:
    """Return the marked fields of a valid schema, at any depth.

    Raises:
        TooComplex: The schema leads to more than MAX_VISITS places.

    """
    return [field for field in _fields(schema) if field.is_personal or field.is_subject] if _mentions(schema) else []


def check_type(event_type: EventType) -> Iterator[Finding]:
    """Return the findings about the marks of a type."""
    described = False
    result: list[Marked] = []
    for index, version in enumerate(event_type.spec.versions):
        if not isinstance(version.schema, dict) or jsonschema.faults(version.schema):
            continue  # which has a finding of its own
        try:
            fields = marked(version.schema)
        except TooComplex:
            message = (
                f"The schema of {version.name} leads to more than {MAX_VISITS} places: its marks are not all found"
            )
            fix = "Refer to fewer schemas, or mark fields without detours."
            place = ("spec", "versions", index, "schema")
            yield event_type.finding("error", "personal-data", message, fix, at=place)
            continue
        described = True
        result += fields
        yield from _check_version(event_type, index, fields)
    is_personal = event_type.spec.classification == "Personal"
    at = ("spec", "classification")
    if is_personal and described and not result:
        message = f"{event_type.spec.type} is Personal, but no schema marks which fields are, and whose"
        fix = (
            f"Mark personal fields with {PERSONAL}: {{category: PII}}, and the person's pseudonym with {SUBJECT}: true."
        )
        yield event_type.finding("error", "personal-data", message, fix, at=at)
    if not is_personal and any(field.is_personal for field in result):
        message = f"{event_type.spec.type} has personal fields, but is {event_type.spec.classification}"
        yield event_type.finding("error", "personal-data", message, "Write classification: Personal.", at=at)


def check_conditions(selection: Selection, read: Sequence[Channel], inventory: Inventory) -> Iterator[Finding]:
    """Return an error for each personal field that a selection's filters or routes read."""
    if check_shared(selection.subscription):
        return  # a malformed route has a finding of its own
    paths = {path for rule in rules_of(selection) if rule.match for path in cel.reads(rule.match)}
    if not paths:
        return
    home, _ = requested_type(selection)
    for channel in read:
        event_type = inventory.type((home, channel.type))
        versions = event_type.spec.versions if event_type else ()
        for field in (field for version in versions if version.major == channel.major for field in _marked(version)):
            if field.is_personal and any(_covers(field.path, path) for path in paths):
                message = f"A filter or route reads {field} of {channel.type}, which is personal and travels encrypted"
                fix = "Filter by another field, or publish what decides as a field of its own."
                yield selection.finding("error", "filter-personal", message, fix, at=("filters",))


def check_removed(new: EventType, position: int, old: Version) -> Iterator[Finding]:
    """Return an error for each mark of an earlier schema that the new one lacks: the field would become readable."""
    version = new.spec.versions[position]
    before, after = _marked(old), {(field.path, field.is_personal, field.is_subject) for field in _marked(version)}
    try:
        present = {field.path for field in _fields(version.schema)}
    except TooComplex:
        return
    for field in before:
        if field.path in present and (field.path, field.is_personal, field.is_subject) not in after:
            mark = PERSONAL if field.is_personal else SUBJECT
            message = f"{new.spec.type} {version.name} no longer marks {field} with {mark}"
            fix = f"Restore {mark}: later events would carry the field unencrypted, or under another person's key."
            at = ("spec", "versions", position, "schema")
            yield new.finding("error", "incompatible-schema", message, fix, at=at)


def _check_version(event_type: EventType, index: int, fields: list[Marked]) -> Iterator[Finding]:
    def finding(message: str, fix: str, at: tuple[str | int, ...] = ()) -> Finding:
        place = ("spec", "versions", index, "schema", *at)
        return event_type.finding("error", "personal-data", f"{name}: {message}", fix, at=place)

    name = event_type.spec.versions[index].name
    subjects = {field.path: field for field in fields if field.is_subject}
    if not subjects and fields:
        fix = f"Mark the field with the person's pseudonym, such as customerId, with {SUBJECT}: true."
        yield finding(f"{fields[0]} is personal, but no field says whose it is", fix, fields[0].at)
    if len(subjects) > 1:
        names = " and ".join(map(str, subjects.values()))
        yield finding(f"{names} are marked with {SUBJECT}", "Mark one: an event is encrypted with one person's key.")
    for field in subjects.values():
        if ITEM in field.path or ANY in field.path:
            fix = "Mark a field outside of lists and maps."
            yield finding(f"{field} is marked with {SUBJECT}, but can occur several times", fix, field.at)
        if field.is_personal:
            fix = "Use a pseudonym, such as a random customerId: it remains readable after the person is forgotten."
            yield finding(f"{field} is marked as personal and as the person's pseudonym", fix, field.at)
    for field in fields:
        if not _is_text(field.schema, nullable=field.is_personal):
            expected = "a string" if field.is_subject else "a string, or a string or null"
            fix = "Mark the strings inside, or write the value as a string."
            yield finding(f"{field} is marked, but is not {expected}", fix, field.at)
        constraints = ", ".join(keyword for keyword in _CONSTRAINTS if keyword in field.schema)
        if constraints and field.is_personal:
            fix = "Validate the value where it enters the service, and leave the constraint out of the event."
            message = f"{field} is personal and has {constraints}, which the mask of a forgotten person breaks"
            yield finding(message, fix, field.at)


def _marked(version: Version) -> list[Marked]:
    """Return the marked fields of a version; none for a schema that has a finding of its own."""
    try:
        return [] if jsonschema.faults(version.schema) else marked(version.schema)
    except TooComplex:
        return []


def _covers(field: Path, read: Path) -> bool:
    """Return True if an expression that reads a path of the event reads a field of the data, or what is inside."""
    steps = read[2:] if read[:2] == ("event", "data") else ()
    return len(steps) >= len(field) > 0 and all(step in (other, ANY) for step, other in zip(field, steps, strict=False))


def _is_text(schema: Mapping[str, Any], *, nullable: bool) -> bool:
    ways = schema.get("anyOf", schema.get("oneOf", [schema]))
    types = [way.get("type") if isinstance(way, Mapping) else None for way in ways]
    names = [name for item in types for name in (item if isinstance(item, list | tuple) else [item])]
    return "string" in names and all(name == "string" or (nullable and name == "null") for name in names)


def _mentions(value: Any) -> bool:
    """Return True if a document has a mark anywhere."""
    waiting = [value]
    while waiting:
        part = waiting.pop()
        if isinstance(part, Mapping):
            if PERSONAL in part or SUBJECT in part:
                return True
            waiting += part.values()
        elif isinstance(part, list | tuple):
            waiting += part
    return False


def _fields(schema: Any) -> Iterator[Marked]:
    """Yield every place of the data that a schema describes, following references; each reference once per branch."""
    waiting: list[tuple[Any, Path, tuple[str | int, ...], frozenset[int]]] = [(schema, (), (), frozenset())]
    visits = 0
    while waiting:
        part, path, at, branch = waiting.pop()
        if not isinstance(part, Mapping) or id(part) in branch:
            continue
        visits += 1
        if visits > MAX_VISITS or len(branch) > _MAX_DEPTH:
            raise TooComplex
        yield Marked(path, at, part)
        inner = branch | {id(part)}
        waiting += [(child, (*path, *steps), place, inner) for child, steps, place in _children(schema, part, at)]


def _children(
    root: Any, schema: Mapping[str, Any], at: tuple[str | int, ...]
) -> Iterator[tuple[Any, Path, tuple[str | int, ...]]]:
    for keyword, value in schema.items():
        here = (*at, keyword)
        if keyword == "$ref" and isinstance(value, str) and value.startswith("#"):  # others lead nowhere
            steps = marks.steps(value)
            yield marks.target(root, steps), (), steps
        elif keyword == "properties" and isinstance(value, Mapping):
            yield from ((child, (name,), (*here, name)) for name, child in value.items())
        elif keyword == "patternProperties" and isinstance(value, Mapping):
            yield from ((child, (ANY,), (*here, name)) for name, child in value.items())
        elif keyword in ("additionalProperties", "unevaluatedProperties"):
            yield value, (ANY,), here
        elif keyword in ("items", "additionalItems", "prefixItems", "contains", "unevaluatedItems"):
            yield from ((child, (ITEM,), place) for child, place in _one_or_more(value, here))
        elif keyword in marks.SAME_VALUE:
            yield from ((child, (), place) for child, place in _one_or_more(value, here))


def _one_or_more(value: Any, at: tuple[str | int, ...]) -> Iterator[tuple[Any, tuple[str | int, ...]]]:
    if isinstance(value, list | tuple):
        yield from ((child, (*at, index)) for index, child in enumerate(value))
    elif at[-1] == "dependentSchemas" and isinstance(value, Mapping):
        yield from ((child, (*at, name)) for name, child in value.items())
    else:
        yield value, at
