"""What daprd must be given with a structured CloudEvent: its trace context, and its partition key."""

from __future__ import annotations

from typing import NamedTuple

import msgspec

from tidings.errors import PublishRefused

PARTITION_KEY = "partitionKey"
"""Dapr's metadata for it; brokers without partitions ignore it."""


class _Attributes(msgspec.Struct):
    traceparent: str = ""
    traceid: str | None = None
    subject: str | None = None


_decoder = msgspec.json.Decoder(_Attributes)


class Prepared(NamedTuple):
    """An event to publish, and its metadata."""

    event: bytes
    metadata: dict[str, str]


def prepare(event: bytes) -> Prepared:
    """Prepare an event for publishing.

    Its partition key is its subject, so that a broker with partitions (Kafka) keeps the order of a subject's events.
    Events without a subject may go to any partition.

    `traceparent` is repeated as `traceid`, where the event has the one and not the other:

    daprd 1.18 puts a `traceparent` of its own over that of a structured CloudEvent, unless the event carries Dapr's
    older `traceid` (components-contrib, pubsub/envelope.go, FromCloudEvent).

    Raises:
        PublishRefused: The event is no JSON object.

    """
    try:
        found = _decoder.decode(event)
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise PublishRefused(f"only structured CloudEvents can be published: {error}") from error
    metadata = {PARTITION_KEY: found.subject} if found.subject else {}
    if not found.traceparent or found.traceid is not None:
        return Prepared(event, metadata)
    opened = event.index(b"{") + 1
    traced = b'%b"traceid":%b,%b' % (event[:opened], msgspec.json.encode(found.traceparent), event[opened:])
    return Prepared(traced, metadata)
