"""Translates gRPC errors of daprd to exceptions with a remedy.

daprd reports most failures of a component as gRPC's INTERNAL with the component's message, so the message must be
parsed. The messages are those of dapr 1.18.1 and components-contrib 1.18.0; the integration tests verify them on real
programs.
"""

import re

from grpc import StatusCode

from tidings.errors import (
    PublishRefused,
    SidecarError,
    SidecarUnavailable,
    StateConflict,
    StateRefused,
    TopicMissing,
)

_CONFLICTS = (
    "possible etag mismatch",  # every store, state/errors.go
    "invalid etag value",  # Redis, an etag that is not a number
    "no item was updated",  # PostgreSQL v1 and v2, an insert of an existing key
    "failed to set key",  # Redis, the script in state/redis/redis.go
    "failed to delete",  # Redis, the same
    "item already exists and first-write",  # state.in-memory
)
_NO_TOPIC = (
    "no response from stream",  # JetStream, and the next
    "no stream matches subject",
    "topic or partition that does not exist",  # Kafka
)
_TOO_LARGE = (
    "maximum payload exceeded",  # NATS
    "message size exceeds maximum allowed",  # a JetStream stream's own limit
    "larger than max",  # gRPC, the sidecar itself
    "larger than configured",  # Kafka's client in daprd (Producer.MaxMessageBytes); RabbitMQ (max_message_size)
    "Message was too large",  # Kafka's server (max.message.bytes of the topic)
    "batch larger than the configured segment size",  # Kafka's server (segment.bytes)
    "Message size too large",
    "exceeding the max",
)
_PERMANENT = (
    "can't contain '||'",  # daprd, components/state/state_config.go
    "string or blob too big",  # SQLite
    "Data too long",  # MySQL
    "request is too large",  # etcd
    "object to insert too large",  # MongoDB
    "invalid bulk length",  # Redis, and the next
    "string exceeds maximum allowed size",
)
_SQLSTATE = re.compile(r"SQLSTATE (?:22|54)")  # PostgreSQL: invalid value (NUL, bad number), or over a limit
_NO_COMPONENT = ("is not found", "not configured")
_UNREADY = {StatusCode.UNAUTHENTICATED, StatusCode.FAILED_PRECONDITION, StatusCode.UNIMPLEMENTED}
_PASSING = {
    StatusCode.UNAVAILABLE,
    StatusCode.DEADLINE_EXCEEDED,
    StatusCode.CANCELLED,
    StatusCode.ABORTED,
    StatusCode.INTERNAL,
    StatusCode.UNKNOWN,
}


def of_publish(code: StatusCode, text: str, topic: str, pubsub: str) -> SidecarError:
    """Return the exception for a failed publish call."""
    what = f"{topic} on {pubsub}: {text}"
    if _mentions(text, _NO_TOPIC):
        fix = "JetStream needs a stream and Kafka a topic before the first event: see tidings.brokers"
        return TopicMissing(f"{what}. {fix}")
    if _mentions(text, _TOO_LARGE):
        return PublishRefused(f"{what}. Send less, or raise the limit on both the sidecar and the broker")
    if code in _PASSING or _is_unready(code, text):
        return SidecarUnavailable(f"{what} ({code.name}){_remedy(code, pubsub)}")
    return PublishRefused(f"{what} ({code.name}){_remedy(code, pubsub)}")


def of_state(code: StatusCode, text: str, keys: str, store: str) -> SidecarError:
    """Return the exception for a failed state call."""
    what = f"{keys} in {store}: {text}"
    if _mentions(text, _CONFLICTS):
        return StateConflict(what)
    if _mentions(text, _PERMANENT) or _SQLSTATE.search(text):
        return StateRefused(f"{what}. The store rejects this key or value permanently")
    if code in _PASSING or code is StatusCode.PERMISSION_DENIED or _is_unready(code, text):
        return SidecarUnavailable(f"{what} ({code.name}){_remedy(code, store)}")
    return StateRefused(f"{what} ({code.name}){_remedy(code, store)}")


def of_secret(code: StatusCode, text: str, name: str, store: str) -> SidecarUnavailable:
    """Return the exception for a secret that could not be read: it may be added, or allowed for this app, later."""
    fix = "Create the secret, and allow the app to read it: scopes of the component and of the app's Configuration"
    return SidecarUnavailable(f"secret {name} in {store}: {text} ({code.name}). {fix}")


def _is_unready(code: StatusCode, text: str) -> bool:
    """Return True if the sidecar itself is not set up (yet), independent of the event or key."""
    return code in _UNREADY or _mentions(text, _NO_COMPONENT)


def _mentions(text: str, phrases: tuple[str, ...]) -> bool:
    return any(phrase in text for phrase in phrases)


def _remedy(code: StatusCode, component: str) -> str:
    if code is StatusCode.UNAUTHENTICATED:
        return ". The sidecar requires an API token: set DAPR_API_TOKEN of the service to it"
    if code is StatusCode.PERMISSION_DENIED:
        return f". List the topic for this app in publishingScopes of the component {component}"
    if code in {StatusCode.INVALID_ARGUMENT, StatusCode.NOT_FOUND, StatusCode.FAILED_PRECONDITION}:
        return f". Check in the sidecar's resources and log that the component {component} is loaded"
    return ""
