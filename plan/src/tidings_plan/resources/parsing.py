"""Parse plain documents into resources, strictly and with suggestions for every error."""

from collections.abc import Mapping
from dataclasses import replace
from difflib import SequenceMatcher
from typing import Any

import msgspec

from tidings_plan.resources import bounds, validation_errors
from tidings_plan.resources.did_you_mean import did_you_mean
from tidings_plan.resources.eventtype import EventTypeSpec
from tidings_plan.resources.findings import Finding
from tidings_plan.resources.model import API_VERSION, GROUP, Metadata, Part, Resource
from tidings_plan.resources.replay import EventReplaySpec
from tidings_plan.resources.source_location import Origin, Path
from tidings_plan.resources.subscription import EventSubscriptionSpec

KINDS: Mapping[str, type[Part]] = {
    "EventType": EventTypeSpec,
    "EventSubscription": EventSubscriptionSpec,
    "EventReplay": EventReplaySpec,
}
MAX_MESSAGE = 500
ALIKE = 0.8
"""Similarity above which an unknown API group counts as a misspelling of ours."""
MAX_FINDINGS = 64
"""Maximum unknown fields to report per document: each requires another pass over it."""
TOP_LEVEL = ("apiVersion", "kind", "metadata", "spec", "status")


def parse_resource(data: Any, origin: Origin | None = None) -> tuple[Resource[Any] | None, list[Finding]]:
    """Parse a document into a resource, or into findings that explain why it is invalid.

    Documents of other API groups are ignored: `(None, [])`. Never raises, whatever the document contains.
    """
    origin = origin or Origin()
    try:
        return _parse(data, origin)
    except bounds.LimitExceeded as error:
        return None, [Finding("error", "too-large", str(error), error.fix, origin.at(*error.path), _name(data))]
    except Exception as error:  # noqa: BLE001 - a bug triggered by one resource must not affect the others
        message = f"Cannot be parsed: {type(error).__name__}: {error}"[:MAX_MESSAGE]
        return None, [Finding("error", "unreadable", message, "Please report this.", origin.at(), _name(data))]


def _parse(data: Any, origin: Origin) -> tuple[Resource[Any] | None, list[Finding]]:
    if not isinstance(data, dict) or not {"apiVersion", "kind"} <= data.keys():
        return None, [
            Finding(
                "error",
                "not-a-resource",
                "Not a resource: apiVersion and kind are missing",
                f"Begin with `apiVersion: {API_VERSION}` and `kind: EventSubscription`.",
                origin.at(),
            )
        ]
    if not _is_tidings(data):
        return None, []
    bounds.check({name: value for name, value in data.items() if name != "status"})
    findings = list(_header(data, origin))
    metadata, wrong = convert(data.get("metadata"), Metadata, ("metadata",), origin)
    findings += wrong
    kind = data["kind"] if isinstance(data["kind"], str) else ""
    spec, wrong = convert(data.get("spec"), KINDS[kind], ("spec",), origin) if kind in KINDS else (None, [])
    findings += wrong
    if findings or metadata is None or spec is None:
        return None, [replace(finding, resource=_name(data)) for finding in findings]
    return Resource(kind, metadata, spec, origin), []


def _is_tidings(data: Mapping[str, Any]) -> bool:
    """Return True if a document has our API group or a misspelling of it, which would otherwise be ignored silently."""
    group = str(data["apiVersion"])[:253].partition("/")[0]
    if group == GROUP:
        return True
    return data["kind"] in [*KINDS] and SequenceMatcher(None, group.strip().lower(), GROUP).ratio() > ALIKE


def _name(data: Any) -> str:
    metadata = data.get("metadata") if isinstance(data, dict) else None
    fields = metadata if isinstance(metadata, dict) else {}
    name, namespace = str(fields.get("name", "?"))[:253], str(fields.get("namespace", "default"))[:63]
    where = "" if namespace == "default" else f"{namespace}/"
    return f"{str(data.get('kind'))[:63]}/{where}{name}" if isinstance(data, dict) else ""


def _header(data: Mapping[str, Any], origin: Origin) -> list[Finding]:
    findings = [
        Finding(
            "error", "unknown-field", f"Unknown field {name}", did_you_mean(str(name), [*TOP_LEVEL]), origin.key(name)
        )
        for name in data
        if name not in TOP_LEVEL
    ]
    if data["apiVersion"] != API_VERSION:
        message = f"apiVersion {str(data['apiVersion'])[:100]} is unknown"
        findings.append(
            Finding("error", "unknown-api-version", message, f"Write {API_VERSION}.", origin.at("apiVersion"))
        )
    if data["kind"] not in [*KINDS]:
        message = f"{API_VERSION} has no kind {str(data['kind'])[:100]}"
        fix = did_you_mean(str(data["kind"]), [*KINDS])
        findings.append(Finding("error", "unknown-kind", message, fix, origin.at("kind")))
    return findings


def convert(data: Any, kind: type[Any], at: Path, origin: Origin) -> tuple[Any, list[Finding]]:
    """Convert a block. Report all unknown fields at once, but stop at the first other error."""
    findings: list[Finding] = []
    data = {} if data is None else data
    while True:
        try:
            return msgspec.convert(data, kind), findings
        except msgspec.ValidationError as error:
            path, finding = validation_errors.explain(error, data, kind, at, origin)
            findings.append(finding)
            if finding.rule != "unknown-field" or len(findings) >= MAX_FINDINGS:
                return None, findings
            data = validation_errors.without(data, path)
