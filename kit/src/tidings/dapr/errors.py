"""What a failed call to daprd means, and how to mend it.

daprd answers most failures of a component with gRPC's INTERNAL and the component's own text, so the text must be read.
The texts are those of dapr 1.18.1 and components-contrib 1.18.0; the integration tests hold them to real programs.
"""

from __future__ import annotations

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
    "invalid etag value",  # Redis, an etag that is no number
    "no item was updated",  # PostgreSQL v1 and v2, an insert where something is
    "failed to set key",  # Redis, the script in state/redis/redis.go
    "failed to delete",  # Redis, the same
    "item already exists and first-write",  # state.in-memory
)
_NO_STREAM = ("no response from stream", "no stream matches subject")
_TOO_LARGE = ("maximum payload exceeded", "larger than max", "Message size too large", "exceeding the max")
_PERMANENT = (
    "can't contain '||'",  # daprd, components/state/state_config.go
    "string or blob too big",  # SQLite
    "Data too long",  # MySQL
    "request is too large",  # etcd
    "object to insert too large",  # MongoDB
    "invalid bulk length",  # Redis, and the next
    "string exceeds maximum allowed size",
)
_SQLSTATE = re.compile(r"SQLSTATE (?:22|54)")  # PostgreSQL: no such value (NUL, bad number), or beyond its limits
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
    """Read why an event was not published."""
    what = f"{topic} on {pubsub}: {text}"
    if _mentions(text, _NO_STREAM):
        return TopicMissing(f"{what}. JetStream needs a stream for each topic: see tidings.brokers.jetstream")
    if _mentions(text, _TOO_LARGE):
        return PublishRefused(f"{what}. Send less, or raise the limit on both the sidecar and the broker")
    if code in _PASSING or _is_unready(code, text):
        return SidecarUnavailable(f"{what} ({code.name}){_mend(code, pubsub)}")
    return PublishRefused(f"{what} ({code.name}){_mend(code, pubsub)}")


def of_state(code: StatusCode, text: str, keys: str, store: str) -> SidecarError:
    """Read why keys were not read or written."""
    what = f"{keys} in {store}: {text}"
    if _mentions(text, _CONFLICTS):
        return StateConflict(what)
    if _mentions(text, _PERMANENT) or _SQLSTATE.search(text):
        return StateRefused(f"{what}. This key or value can never be stored")
    if code in _PASSING or code is StatusCode.PERMISSION_DENIED or _is_unready(code, text):
        return SidecarUnavailable(f"{what} ({code.name}){_mend(code, store)}")
    return StateRefused(f"{what} ({code.name}){_mend(code, store)}")


def _is_unready(code: StatusCode, text: str) -> bool:
    """Return whether the sidecar itself is not set up (yet), which is no fault of the one event that finds out."""
    return code in _UNREADY or _mentions(text, _NO_COMPONENT)


def _mentions(text: str, phrases: tuple[str, ...]) -> bool:
    return any(phrase in text for phrase in phrases)


def _mend(code: StatusCode, component: str) -> str:
    if code is StatusCode.UNAUTHENTICATED:
        return ". The sidecar asks for DAPR_API_TOKEN: give the service the same one"
    if code is StatusCode.PERMISSION_DENIED:
        return f". List the topic for this app in publishingScopes of the component {component}"
    if code in {StatusCode.INVALID_ARGUMENT, StatusCode.NOT_FOUND, StatusCode.FAILED_PRECONDITION}:
        return f". The sidecar must have loaded a component named {component}: see its resources and its log"
    return ""
