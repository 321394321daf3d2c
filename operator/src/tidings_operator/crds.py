"""The CustomResourceDefinitions, generated from the models with which Tidings reads resources.

`python -m tidings_operator.crds > operator/manifests/crds.yaml` regenerates them; a test detects differences.
"""

import math
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import msgspec
import yaml

from tidings_plan.resources import EventReplaySpec, EventSubscriptionSpec, EventTypeSpec
from tidings_plan.resources.model import GROUP

VERSION = "v1alpha1"
DEPTH = 3
"""Levels of nested filters that are spelled out, because structural schemas cannot be recursive.

The operator checks deeper ones.
"""

ANY = {"x-kubernetes-preserve-unknown-fields": True}
LONGEST_LIST = 64
"""Default maximum length of lists: CEL rules over longer ones are too expensive for the API server."""

Schema = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Column:
    """A column of `kubectl get`; columns with a priority above 0 are shown only with `-o wide`."""

    name: str
    path: str
    type: str = "string"
    priority: int = 0
    description: str = ""

    def render(self) -> dict[str, Any]:
        """Return the column's definition in a CRD."""
        more = {"priority": self.priority} if self.priority else {}
        text = {"description": self.description} if self.description else {}
        return {"name": self.name, "type": self.type, "jsonPath": self.path, **more, **text}


@dataclass(frozen=True, slots=True)
class Kind:
    """One kind: its model, names and columns."""

    name: str
    plural: str
    short: str
    spec: type[msgspec.Struct]
    description: str
    status: Mapping[str, Schema]
    columns: tuple[Column, ...]


def _condition(kind: str, field: str) -> str:
    return f'.status.conditions[?(@.type=="{kind}")].{field}'


READY = Column("Ready", _condition("Ready", "status"), description="True if it works")
REASON = Column("Reason", _condition("Ready", "reason"), description="Reason of the status Ready")
MESSAGE = Column("Message", _condition("Ready", "message"), priority=1, description="Explanation and remedy")
AGE = Column("Age", ".metadata.creationTimestamp", "date")

_TEXT: Schema = {"type": "string"}
_NUMBER: Schema = {"type": "integer", "format": "int64"}
_TEXTS: Schema = {"type": "array", "items": _TEXT}
_TIME: Schema = {"type": "string", "format": "date-time"}
_CONDITION: Schema = {
    "type": "object",
    "required": ["type", "status", "lastTransitionTime", "reason", "message"],
    "properties": {
        "type": _TEXT,
        "status": {"type": "string", "enum": ["True", "False", "Unknown"]},
        "observedGeneration": _NUMBER,
        "lastTransitionTime": _TIME,
        "reason": _TEXT,
        "message": _TEXT,
    },
}
_COMMON: Mapping[str, Schema] = {
    "observedGeneration": {**_NUMBER, "description": "Generation of the spec that this status describes"},
    "conditions": {
        "type": "array",
        "items": _CONDITION,
        "x-kubernetes-list-type": "map",
        "x-kubernetes-list-map-keys": ["type"],
    },
    "warnings": {**_TEXTS, "description": "Warnings that do not prevent operation"},
}
_CHILD: Schema = {
    "type": "object",
    "properties": {"apiVersion": _TEXT, "kind": _TEXT, "name": _TEXT, "hash": _TEXT},
}

SUBSCRIPTION_STATUS: Mapping[str, Schema] = {
    **_COMMON,
    "topics": {**_TEXTS, "description": "Consumed topics"},
    "events": {
        "type": "array",
        "description": "Entries of spec.events: whether each is consumed, from which topics, or the reason why not",
        "items": {
            "type": "object",
            "properties": {
                "name": _TEXT,
                "ready": {"type": "boolean"},
                "reason": _TEXT,
                "message": _TEXT,
                "topics": _TEXTS,
            },
        },
    },
    "children": {"type": "array", "items": _CHILD, "description": "Generated objects"},
    "enforcement": {
        "type": "object",
        "additionalProperties": _TEXT,
        "description": "Enforcer of each requested field: daprd, kit, broker or nobody",
    },
}
TYPE_STATUS: Mapping[str, Schema] = {
    **_COMMON,
    "consumers": {**_TEXTS, "description": "Subscriptions that name the type: namespace/name (app)"},
    "observers": {**_TEXTS, "description": "Subscriptions that match the type by a pattern"},
    "consumerCount": _NUMBER,
    "accepted": {
        "type": "array",
        "description": "Schemas that readers rely on, the oldest first; changes are checked against them",
        "items": {"type": "object", "properties": {"version": _TEXT, "schema": _TEXT}},
    },
    "deprecated": {
        "type": "array",
        "description": "Deprecated versions and their readers",
        "items": {
            "type": "object",
            "properties": {"version": _TEXT, "removal": _TEXT, "alternative": _TEXT, "consumers": _TEXTS},
        },
    },
}
REPLAY_STATUS: Mapping[str, Schema] = {
    **_COMMON,
    "phase": {"type": "string", "enum": ["Pending", "Running", "Completed", "Failed", "Cancelled"]},
    "replayId": _TEXT,
    "matched": {**_NUMBER, "description": "Events that the filter selects"},
    "sent": {**_NUMBER, "description": "Sent to the broker"},
    "handled": {**_NUMBER, "description": "Confirmed as handled by the consumer, now or earlier"},
    "failed": {**_NUMBER, "description": "Failed and dead-lettered again"},
    "unread": {**_NUMBER, "description": "No handler of the consumer reads them"},
    "dropped": {**_NUMBER, "description": "Dropped by the consumer's handler"},
    "unconfirmed": {**_NUMBER, "description": "Sent, and not confirmed by the consumer"},
    "skipped": {**_NUMBER, "description": "Could not be sent, or were no longer open"},
    "skippedEvents": {**_TEXTS, "description": "The first events that were skipped, each with the reason"},
    "through": {**_NUMBER, "description": "The latest dead letter that may belong to this replay"},
    "failure": {**_TEXT, "description": "Reason why the archive stopped"},
    "startedAt": _TIME,
    "sentAt": {**_TIME, "description": "Time at which the last event was sent"},
    "progressedAt": {**_TIME, "description": "Time of the last change of a counter"},
    "completedAt": _TIME,
    "audit": {"type": "array", "items": {"type": "object", "properties": {"at": _TIME, "what": _TEXT, "by": _TEXT}}},
}

KINDS = (
    Kind(
        "EventSubscription",
        "eventsubscriptions",
        "esub",
        EventSubscriptionSpec,
        "Subscribes an app to event types, with its delivery policy.",
        SUBSCRIPTION_STATUS,
        (
            Column("Events", ".status.events[*].name", description="Consumed event types"),
            Column("App", ".spec.consumer.appId", description="Who reads"),
            READY,
            REASON,
            Column("Programmed", _condition("Programmed", "status"), priority=1),
            Column("Observed", _condition("Observed", "status"), priority=1),
            Column("Owner", ".spec.consumer.owner", priority=1, description="Responsible team"),
            MESSAGE,
            AGE,
        ),
    ),
    Kind(
        "EventType",
        "eventtypes",
        "evtype",
        EventTypeSpec,
        "A business event or command: its owner, versions and permitted readers.",
        TYPE_STATUS,
        (
            Column("Type", ".spec.type"),
            Column("Versions", ".spec.versions[*].name"),
            Column("Owner", ".spec.owner.team", description="Responsible team"),
            Column("Consumers", ".status.consumerCount", "integer", description="Number of subscriptions"),
            READY,
            REASON,
            MESSAGE,
            AGE,
        ),
    ),
    Kind(
        "EventReplay",
        "eventreplays",
        "ereplay",
        EventReplaySpec,
        "Replays events from dead letters or the archive to one subscription.",
        REPLAY_STATUS,
        (
            Column("Target", ".spec.target.subscription"),
            Column("Source", ".spec.source.kind"),
            Column("Phase", ".status.phase"),
            Column("Sent", ".status.sent", "integer"),
            Column("Matched", ".status.matched", "integer"),
            Column("Handled", ".status.handled", "integer"),
            Column("Failed", ".status.failed", "integer", description="Failed again"),
            Column("Unread", ".status.unread", "integer", description="Not read by any handler"),
            Column("Skipped", ".status.skipped", "integer", description="Could not be sent"),
            Column("Dropped", ".status.dropped", "integer", priority=1),
            Column("Unconfirmed", ".status.unconfirmed", "integer", priority=1),
            REASON,
            MESSAGE,
            AGE,
        ),
    ),
)

_IMMUTABLE = {"rule": "self == oldSelf", "message": "a replay is an order that was given: make a new one instead"}
_ONE_OPERATOR = " + ".join(
    f"(has(self.{name}) ? 1 : 0)" for name in ("exact", "prefix", "suffix", "all", "any", "not", "cel")
)
RULES: Mapping[str, tuple[Mapping[str, str], ...]] = {
    "EventSelector": (
        {"rule": "has(self.type) != has(self.pattern)", "message": "set exactly one of type and pattern"},
    ),
    "Filter": (
        {
            "rule": f"{_ONE_OPERATOR} == 1",
            "message": "a filter has exactly one of exact, prefix, suffix, all, any, not, cel",
        },
    ),
    "Deprecation": ({"rule": "self.removal > self.effective", "message": "removal must be later than effective"},),
    "ReplayFilter": (
        {
            "rule": "!has(self.since) || !has(self.until) || self.since < self.until",
            "message": "since must be before until",
        },
    ),
    "EventTypeSpec": (
        {
            "rule": "self.type == oldSelf.type",
            "message": "a type's name is what its readers hold on to: make another EventType instead",
        },
        {
            "rule": "!has(self.domain) || self.domain == '' || self.type.startsWith(self.domain + '.')",
            "message": "domain must be the first part of type",
        },
    ),
    "EventReplaySpec": (_IMMUTABLE,),
}
"""CEL rules by model, which the API server enforces even while the operator is down."""


def definitions() -> list[dict[str, Any]]:
    """Return the CustomResourceDefinitions of all kinds."""
    return [_definition(kind) for kind in KINDS]


def _definition(kind: Kind) -> dict[str, Any]:
    (_,), models = msgspec.json.schema_components([kind.spec])
    schema = {
        "description": kind.description,
        "type": "object",
        "required": ["spec"],
        "properties": {
            "apiVersion": _TEXT,
            "kind": _TEXT,
            "metadata": {"type": "object"},
            "spec": _model(kind.spec.__name__, models, ()),
            # Atomic: the API server then does not track the owner of each field.
            "status": {"type": "object", "x-kubernetes-map-type": "atomic", "properties": dict(kind.status)},
        },
    }
    names = {
        "kind": kind.name,
        "listKind": f"{kind.name}List",
        "plural": kind.plural,
        "singular": kind.name.lower(),
        "shortNames": [kind.short],
        "categories": ["eda"],
    }
    version = {
        "name": VERSION,
        "served": True,
        "storage": True,
        "subresources": {"status": {}},
        "additionalPrinterColumns": [column.render() for column in kind.columns],
        "schema": {"openAPIV3Schema": schema},
    }
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": f"{kind.plural}.{GROUP}", "labels": {"app.kubernetes.io/part-of": "tidings"}},
        "spec": {"group": GROUP, "scope": "Namespaced", "names": names, "versions": [version]},
    }


def _model(name: str, models: Mapping[str, Any], above: tuple[str, ...]) -> Schema:
    if above.count(name) >= DEPTH:
        return dict(ANY, type="object")
    model = models[name]
    below = (*above, name)
    schema: Schema = {"type": "object", "description": " ".join(model.get("description", name).split())}
    if model.get("required"):
        schema["required"] = model["required"]
    schema["properties"] = {field: _field(value, models, below) for field, value in model["properties"].items()}
    # Only the outermost filter has the rule, because nesting would multiply its cost; the operator checks the others.
    if name in RULES and name not in above:
        schema["x-kubernetes-validations"] = [dict(rule) for rule in RULES[name]]
    return schema


def _field(field: Mapping[str, Any], models: Mapping[str, Any], above: tuple[str, ...]) -> Schema:
    """Convert a field's JSON Schema to a structural one."""
    if "$ref" in field:
        schema = _model(field["$ref"].rpartition("/")[2], models, above)
    elif "anyOf" in field:
        # A union of several types has no structural schema: the operator checks it.
        choices = [choice for choice in field["anyOf"] if choice.get("type") != "null"]
        schema = _field(choices[0], models, above) if len(choices) == 1 else dict(ANY)
    else:
        schema = _plain(field, models, above)
    if "description" in field:
        schema["description"] = field["description"]
    default = _without_nulls(field.get("default"))
    if default not in (None, "", [], ()):
        schema["default"] = default
    return schema


def _plain(field: Mapping[str, Any], models: Mapping[str, Any], above: tuple[str, ...]) -> Schema:
    schema = {name: value for name, value in field.items() if name not in ("default", "propertyNames", "title")}
    if "enum" in schema:
        schema["type"] = "string"
    if schema.get("type") == "array":
        schema["items"] = _without_defaults(_field(schema["items"], models, above))
        schema.setdefault("maxItems", LONGEST_LIST)
    if isinstance(schema.get("minimum"), float):
        # The API server compares integers with the integral part of a minimum: 0 would pass for 0.001.
        schema["exclusiveMinimum"] = math.floor(schema.pop("minimum"))
    if "pattern" in schema:
        schema["pattern"] = schema["pattern"].replace(r"\Z", "$")  # Go's `$` is the end of the text, Python's is not
    if "additionalProperties" in schema:
        values = _field(schema.pop("additionalProperties") or {}, models, above)
        # CEL ignores maps of untyped values, but not objects with unknown fields.
        schema.update({"additionalProperties": values} if "type" in values else ANY)
    elif schema.get("type") == "object":
        schema.update(ANY)
    if "exclusiveMinimum" in schema:
        schema["minimum"], schema["exclusiveMinimum"] = schema["exclusiveMinimum"], True
    return schema if "type" in schema else dict(ANY)


def _without_defaults(schema: Any) -> Any:
    """Remove defaults from items of lists: Argo CD compares lists as a whole and would always detect a difference."""
    if isinstance(schema, dict):
        # A map of properties is no schema; it may contain one named `default`.
        is_schema = isinstance(schema.get("type"), str) or ANY.keys() <= schema.keys()
        kept = {name: value for name, value in schema.items() if name != "default" or not is_schema}
        return {name: _without_defaults(value) for name, value in kept.items()}
    return schema


def _without_nulls(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _without_nulls(item) for name, item in value.items() if item not in (None, "", [])}
    return value


class _Dumper(yaml.SafeDumper):
    """Writes repeated blocks in full, for human readers."""

    def ignore_aliases(self, _data: Any) -> bool:
        """Never write an alias."""
        return True


def text() -> str:
    """Return the CRDs as YAML."""
    header = "# Generated by `python -m tidings_operator.crds`; do not edit.\n"
    return header + yaml.dump_all(definitions(), Dumper=_Dumper, sort_keys=False, width=120)


if __name__ == "__main__":
    sys.stdout.write(text())
