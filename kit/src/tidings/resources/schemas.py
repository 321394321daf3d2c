"""Schemas and examples that stand in files beside the YAML, read into the EventType."""

import json
from pathlib import Path
from typing import Any

import msgspec

from tidings.resources import bounds, reading
from tidings.resources.eventtype import EventType, Version
from tidings.resources.findings import Finding
from tidings.resources.model import Resource


def resolve(event_type: EventType) -> tuple[EventType, list[Finding]]:
    """Return the type with every schema and example inline, and a finding for each file that cannot be read."""
    folder = Path(event_type.origin.file).parent
    findings: list[Finding] = []
    versions = tuple(
        _resolve_version(event_type, place, version, folder, findings)
        for place, version in enumerate(event_type.spec.versions)
    )
    spec = msgspec.structs.replace(event_type.spec, versions=versions)
    return Resource(event_type.kind, event_type.metadata, spec, event_type.origin), findings


def _resolve_version(
    event_type: EventType, place: int, version: Version, folder: Path, findings: list[Finding]
) -> Version:
    at = ("spec", "versions", place)
    schema: Any = version.schema
    if isinstance(schema, str):
        schema = _load(event_type, folder / schema, (*at, "schema"), findings)
    examples = [
        _load(event_type, folder / each, (*at, "examples", index), findings) if isinstance(each, str) else each
        for index, each in enumerate(version.examples)
    ]
    return msgspec.structs.replace(
        version, schema=schema, examples=tuple(each for each in examples if each is not None)
    )


def _load(event_type: EventType, path: Path, at: tuple[str | int, ...], findings: list[Finding]) -> Any:
    try:
        loaded = json.loads(reading.text_of(path))
        bounds.check(loaded)
    except OSError as error:
        problem, mend = f"{path} cannot be read: {error.strerror}", "Paths are relative to the YAML file."
    except bounds.TooMuch as error:
        problem, mend = f"{path}: {error}", error.fix
    except (ValueError, RecursionError) as error:
        problem, mend = f"{path} is no JSON: {error}", "Correct the file."
    else:
        if isinstance(loaded, dict):
            return loaded
        problem, mend = f"{path} holds {type(loaded).__name__}, not an object", "Write a JSON object."
    findings.append(event_type.finding("error", "schema-unreadable", problem, mend, at=at))
    return None
