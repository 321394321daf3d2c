"""The schemas that a type's readers rely on, kept in its status.

They reveal changes made while no operator ran, and allow transitive compatibility checks against more than the previous
state. An incompatible change is not accepted: it is reported until it is fixed, or until the type's compatibility is
None.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

import msgspec

from tidings_plan.compatibility import check_type
from tidings_plan.resources import EventType, Finding, Selection
from tidings_plan.resources.eventtype import Version

STATES = 20
"""Maximum number of schemas kept per version."""
LARGEST = 256 * 1024
"""Maximum total size of a type's schemas in bytes: an object in etcd may be 1.5 MiB. Larger ones are not kept."""

Status = Mapping[str, Any]
Entry = dict[str, str]


def earlier(this: EventType, status: Status) -> list[EventType]:
    """Return the accepted states, the oldest first; the last one has every version."""
    entries: Sequence[Entry] = status.get("accepted") or ()
    versions = [Version(name=entry["version"], schema=msgspec.json.decode(entry["schema"])) for entry in entries]
    last = {version.name: version for version in versions}
    states = [*((version,) for version in versions if last[version.name] is not version), tuple(last.values())]
    return [replace(this, spec=msgspec.structs.replace(this.spec, versions=state)) for state in states if state]


def misfits(this: EventType, status: Status, consumers: Sequence[Selection] = ()) -> list[Finding]:
    """Return the incompatibilities of a type with its accepted states, and the affected subscriptions."""
    states = earlier(this, status)
    problems = check_type(this, states, consumers) if states else ()
    return [finding for finding in dict.fromkeys(problems) if finding.severity == "error"]


def misfit_versions(this: EventType, status: Status) -> dict[str, str]:
    """Return the reasons why versions are incompatible with their readers, by version."""
    reasons: dict[str, str] = {}
    for finding in misfits(this, status):
        for place, version in enumerate(this.spec.versions):
            if finding.location.field == f"spec.versions[{place}].schema":
                reasons.setdefault(version.name, finding.message)
    return reasons


def following(this: EventType, status: Status) -> list[Entry]:
    """Return the accepted states after the current state of a type."""
    entries: Sequence[Entry] = status.get("accepted") or ()
    published = [version for version in this.spec.versions if version.state in ("Active", "Deprecated")]
    states = STATES if this.spec.compatibility.endswith("Transitive") else 1
    return [
        {"version": version.name, "schema": text}
        for version in published
        if isinstance(version.schema, dict)
        for text in _kept(
            version, [e["schema"] for e in entries if e["version"] == version.name], states, len(published)
        )
    ]


def _kept(version: Version, known: Sequence[str], states: int, versions: int) -> Iterator[str]:
    """Yield the schemas of a version that fit into the size limit, the oldest first."""
    now = msgspec.json.encode(version.schema, order="deterministic").decode()
    whole = [*(text for text in known if text != now), now][-states:]
    for place, text in enumerate(whole):
        if sum(map(len, whole[place:])) <= LARGEST // versions:
            yield text
