"""The messages: CloudEvents 1.0 in structured JSON, as the SDK writes them and sidecars deliver them."""

from collections.abc import Mapping
from typing import Any

from tidings.messages.envelope import CONTENT_TYPE, Envelope, Failure
from tidings_plan.asyncapi.schemas import reference
from tidings_plan.resources.eventtype import EventType, Version

CLOUD_EVENT, DEAD_LETTER, REPLAYED, TRAIT = "CloudEvent", "DeadLetter", "Replayed", "cloudEvent"

_MEANING: Mapping[str, str] = {
    "id": "Given once, when the fact is recorded; the same in every retry, dead letter and replay",
    "source": "The app that published it",
    "type": "What has happened, or what is asked for, without its version",
    "specversion": "The version of CloudEvents",
    "version": "The major version of the type, such as 2",
    "subject": "The business entity it is about; events of one subject can be kept in order",
    "time": "When it happened",
    "correlationid": "The business transaction that it belongs to",
    "causationid": "The event that it follows from",
    "traceparent": "W3C trace context",
    "baggage": "W3C baggage: names and values that every step of the transaction can read",
    "tracestate": "W3C trace context",
    "replayto": "The one subscription that a replayed event is for",
    "pubsubname": "The Dapr component that carried it",
    "topic": "Where it was published first",
    "failurereason": "Why the consumer gave it up",
    "failureclass": "The error's class",
    "failureattempts": "How often it was tried",
    "failuresubscription": "The EventSubscription that failed on it",
    "failuretopic": "The topic it was read from",
    "failurefirst": "When it was first tried",
    "failurelast": "When it was last tried",
}
_FAILURE = Failure.__struct_fields__
_ATTRIBUTES = tuple(name for name in Envelope.__struct_fields__ if name not in (*_FAILURE, "data", "data_base64"))
_REQUIRED = ("id", "source", "type", "specversion")


def common_schemas() -> dict[str, Any]:
    """Return the schemas that all messages build on."""
    attributes = {name: _attribute(name) for name in _ATTRIBUTES}
    attributes["specversion"] = {**attributes["specversion"], "const": "1.0"}
    attributes["time"] = {**attributes["time"], "format": "date-time"}
    attributes["data"] = {"description": "The business content"}
    envelope = {
        "description": "CloudEvents 1.0, structured JSON",
        "type": "object",
        "required": list(_REQUIRED),
        "properties": attributes,
    }
    failed = {"type": "object", "properties": {name: _attribute(name) for name in _FAILURE}}
    return {CLOUD_EVENT: envelope, DEAD_LETTER: {"allOf": [reference(CLOUD_EVENT), failed]}}


def common_messages() -> dict[str, Any]:
    """Return the messages that are of no one type."""
    return {
        DEAD_LETTER: {
            "title": "Dead letter",
            "summary": "An event that a consumer gave up: itself, with the reason.",
            "traits": [_trait()],
            "payload": reference(DEAD_LETTER),
        },
        REPLAYED: {
            "title": "Replayed event",
            "summary": "An event that is sent again to one consumer, under its old id.",
            "traits": [_trait()],
            "payload": reference(CLOUD_EVENT),
        },
    }


def trait() -> dict[str, Any]:
    """Return what every message has in common: its headers, and where its correlation id is."""
    return {
        "contentType": CONTENT_TYPE,
        "headers": {"type": "object", "properties": {"content-type": {"const": CONTENT_TYPE}}},
        "correlationId": {
            "description": "The same in everything that one business transaction leads to",
            "location": "$message.payload#/correlationid",
        },
        "externalDocs": {"description": "CloudEvents 1.0", "url": "https://cloudevents.io"},
    }


def message(event_type: EventType, version: Version) -> dict[str, Any]:
    """Describe one version of a type as a message."""
    spec, label = event_type.spec, f"{event_type.spec.type}.{version.name}"
    own = {
        "type": {"const": spec.type},
        "version": {"const": version.major},
        "data": reference(label) if isinstance(version.schema, dict) else {},
    }
    payload = {"type": "object", "required": ["version", "data"], "properties": own}
    examples = [
        {"name": f"example{place}", "payload": _envelope(event_type, version, data)}
        for place, data in enumerate(version.examples, 1)
    ]
    ends = version.deprecation
    warning = ""
    if ends:
        instead = f" Read {ends.alternative} instead." if ends.alternative else ""
        warning = f"Deprecated from {ends.effective}, removed on {ends.removal}.{instead}"
    return {
        "name": label,
        "title": label,
        "summary": spec.description or label,
        **({"description": text} if (text := " ".join(filter(None, (version.description, warning)))) else {}),
        "tags": [{"name": tag} for tag in (spec.intent.lower(), spec.classification.lower(), version.state.lower())],
        "traits": [_trait()],
        "payload": {"allOf": [reference(CLOUD_EVENT), payload]},
        **({"examples": examples} if examples else {}),
    }


def _attribute(name: str) -> dict[str, str]:
    return {"type": "string", **({"description": _MEANING[name]} if name in _MEANING else {})}


def _trait() -> dict[str, str]:
    return {"$ref": f"#/components/messageTraits/{TRAIT}"}


def _envelope(event_type: EventType, version: Version, data: Any) -> dict[str, Any]:
    """Put an example of data into an envelope; id and time are fixed, so that two documents can be compared."""
    producers = event_type.spec.producers
    return {
        "specversion": "1.0",
        "id": "01980b10-7c00-7000-8000-000000000001",
        "source": producers[0] if producers else event_type.spec.owner.team,
        "type": event_type.spec.type,
        "version": version.major,
        "time": "2026-01-01T12:00:00Z",
        "datacontenttype": "application/json",
        "correlationid": "01980b10-7c00-7000-8000-000000000000",
        "data": data,
    }
