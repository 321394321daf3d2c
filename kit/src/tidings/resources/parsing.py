"""Plain documents into resources: strict, and with an answer to "what should I write instead?"."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import msgspec

from tidings.resources import complaints
from tidings.resources.eventtype import EventTypeSpec
from tidings.resources.findings import Finding
from tidings.resources.model import API_VERSION, GROUP, Metadata, Part, Resource
from tidings.resources.origin import Origin, Path
from tidings.resources.replay import EventReplaySpec
from tidings.resources.subscription import EventSubscriptionSpec
from tidings.resources.suggesting import did_you_mean

KINDS: Mapping[str, type[Part]] = {
    "EventType": EventTypeSpec,
    "EventSubscription": EventSubscriptionSpec,
    "EventReplay": EventReplaySpec,
}
TOP_LEVEL = ("apiVersion", "kind", "metadata", "spec", "status")


def parse_resource(data: Any, origin: Origin | None = None) -> tuple[Resource[Any] | None, list[Finding]]:
    """Turn a document into a resource, or into the findings that say why it is none.

    A document of another API group is no concern of ours: `(None, [])`.
    """
    origin = origin or Origin()
    if not isinstance(data, dict) or not {"apiVersion", "kind"} <= data.keys():
        return None, [
            Finding(
                "error",
                "not-a-resource",
                "This is no resource: apiVersion and kind are missing",
                f"Begin with `apiVersion: {API_VERSION}` and `kind: EventSubscription`.",
                origin.at(),
            )
        ]
    if str(data["apiVersion"]).partition("/")[0] != GROUP:
        return None, []
    findings = list(_header(data, origin))
    metadata, wrong = _convert(data.get("metadata"), Metadata, ("metadata",), origin)
    findings += wrong
    kind = str(data["kind"])
    spec, wrong = _convert(data.get("spec"), KINDS[kind], ("spec",), origin) if kind in KINDS else (None, [])
    findings += wrong
    if findings or metadata is None or spec is None:
        return None, [replace(each, resource=_name(data)) for each in findings]
    return Resource(kind, metadata, spec, origin), []


def _name(data: Mapping[str, Any]) -> str:
    metadata = data.get("metadata")
    return f"{data['kind']}/{metadata.get('name', '?') if isinstance(metadata, dict) else '?'}"


def _header(data: Mapping[str, Any], origin: Origin) -> list[Finding]:
    findings = [
        Finding(
            "error", "unknown-field", f"Unknown field {name}", did_you_mean(str(name), [*TOP_LEVEL]), origin.key(name)
        )
        for name in data
        if name not in TOP_LEVEL
    ]
    if data["apiVersion"] != API_VERSION:
        message = f"apiVersion {data['apiVersion']} is not known"
        findings.append(
            Finding("error", "unknown-api-version", message, f"Write {API_VERSION}.", origin.at("apiVersion"))
        )
    if data["kind"] not in KINDS:
        message = f"{API_VERSION} has no kind {data['kind']}"
        mend = did_you_mean(str(data["kind"]), [*KINDS])
        findings.append(Finding("error", "unknown-kind", message, mend, origin.at("kind")))
    return findings


def _convert(data: Any, kind: type[Any], at: Path, origin: Origin) -> tuple[Any, list[Finding]]:
    """Convert a block; every unknown field is found in one go, any other mistake ends the search."""
    findings: list[Finding] = []
    data = {} if data is None else data
    while True:
        try:
            return msgspec.convert(data, kind), findings
        except msgspec.ValidationError as error:
            path, finding = complaints.explain(error, data, kind, at, origin)
            findings.append(finding)
            if finding.rule != "unknown-field":
                return None, findings
            data = complaints.without(data, path)
