"""Inline the schemas and examples that an EventType references as files."""

import json
from pathlib import Path
from typing import Any

import msgspec

from tidings_plan.resources import bounds, reading
from tidings_plan.resources.eventtype import EventType, Version
from tidings_plan.resources.findings import Finding
from tidings_plan.resources.model import Resource


def resolve(event_type: EventType) -> tuple[EventType, list[Finding]]:
    """Return the type with all schemas and examples inline, and a finding for each unreadable file."""
    findings: list[Finding] = []
    versions: list[Version] = []
    for index, version in enumerate(event_type.spec.versions):
        at = ("spec", "versions", index)
        schema: Any = version.schema
        if isinstance(schema, str):
            schema = _load(event_type, schema, (*at, "schema"), findings)
        examples = [
            _load(event_type, item, (*at, "examples", number), findings) if isinstance(item, str) else item
            for number, item in enumerate(version.examples)
        ]
        read = tuple(example for example in examples if example is not None)
        versions.append(msgspec.structs.replace(version, schema=schema, examples=read))
    spec = msgspec.structs.replace(event_type.spec, versions=tuple(versions))
    return Resource(event_type.kind, event_type.metadata, spec, event_type.origin), findings


def _load(event_type: EventType, file: str, at: tuple[str | int, ...], findings: list[Finding]) -> Any:
    folder = Path(event_type.origin.file).parent
    path = folder / file
    try:
        loaded = json.loads(_text_below(folder, path))
        bounds.check(loaded)
    except OSError as error:
        problem = f"{path} cannot be read: {error.strerror}"
        fix = "Paths are relative to the YAML file, and lead to its folder or below."
    except bounds.LimitExceeded as error:
        problem, fix = f"{path}: {error}", error.fix
    except (ValueError, RecursionError) as error:
        problem, fix = f"{path} is not JSON: {error}", "Correct the file."
    else:
        if isinstance(loaded, dict):
            return loaded
        problem, fix = f"{path} contains {type(loaded).__name__}, not an object", "Write a JSON object."
    findings.append(event_type.finding("error", "schema-unreadable", problem, fix, at=at))
    return None


def _text_below(folder: Path, path: Path) -> str:
    """Return a file's text; raise OSError if it, or a link to it, is outside of a folder: it may hold a secret."""
    if not path.resolve().is_relative_to(folder.resolve()):
        raise OSError(0, "it is outside of the folder of the YAML file")
    return reading.text_of(path)
