"""Adds the trace context and partition key that daprd requires to a structured CloudEvent."""

from typing import NamedTuple

import msgspec

from tidings.errors import PublishRefused
from tidings.messages.envelope import UNREADABLE

PARTITION_KEY = "partitionKey"
"""Dapr's metadata key of the partition key; brokers without partitions ignore it."""


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

    The partition key is the event's subject, so that a partitioned broker (Kafka) keeps the events of a subject in
    order. Events without a subject may go to any partition.

    `traceparent` is copied to `traceid` if the event has only the former: daprd 1.18 replaces the `traceparent` of a
    structured CloudEvent with its own, unless the event carries Dapr's older `traceid` (components-contrib,
    pubsub/envelope.go, FromCloudEvent).

    Raises:
        PublishRefused: The event is not a JSON object, is nested too deeply to be read, or one of `subject`,
            `traceparent` and `traceid` is not a string.

    """
    try:
        attributes = _decoder.decode(event)
    except UNREADABLE as error:
        raise PublishRefused(f"only structured CloudEvents can be published: {error}") from error
    metadata = {PARTITION_KEY: attributes.subject} if attributes.subject else {}
    if not attributes.traceparent or attributes.traceid is not None:
        return Prepared(event, metadata)
    end = event.rindex(b"}")  # at the end it also replaces a `traceid` of null
    traced = b'%b,"traceid":%b%b' % (event[:end], msgspec.json.encode(attributes.traceparent), event[end:])
    return Prepared(traced, metadata)
