"""Keeps an event's own trace context on its way through Dapr."""

from __future__ import annotations

import msgspec

from tidings.errors import PublishRefused


class _Trace(msgspec.Struct):
    traceparent: str = ""
    traceid: str | None = None


_decoder = msgspec.json.Decoder(_Trace)


def keep_traceparent(event: bytes) -> bytes:
    """Repeat `traceparent` as `traceid`, where the event has the one and not the other.

    daprd 1.18 puts a `traceparent` of its own over that of a structured CloudEvent, unless the event carries Dapr's
    older `traceid` (components-contrib, pubsub/envelope.go, FromCloudEvent).

    Raises:
        PublishRefused: The event is no JSON object.

    """
    try:
        trace = _decoder.decode(event)
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise PublishRefused(f"only structured CloudEvents can be published: {error}") from error
    if not trace.traceparent or trace.traceid is not None:
        return event
    opened = event.index(b"{") + 1
    return b'%b"traceid":%b,%b' % (event[:opened], msgspec.json.encode(trace.traceparent), event[opened:])
