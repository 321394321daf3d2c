"""OpenTelemetry across publish and consume, by the messaging conventions: a consumer's span links to its producer's.

Nothing is traced until the program installs a tracer provider (`tidings.fastapi` does where
`OTEL_EXPORTER_OTLP_ENDPOINT` is set); the traceparent of what is being handled is then passed on as it is.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from opentelemetry import trace
from opentelemetry.trace import Link, SpanKind, Status, StatusCode
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from tidings.envelope import Envelope
from tidings.outcomes import DeadLetter, Outcome, Retry

_tracer = trace.get_tracer("tidings")
_propagator = TraceContextTextMapPropagator()


def producer(label: str, identity: str, cause: Envelope) -> tuple[str, str]:
    """Record that an event is published; answers the traceparent and tracestate that it carries."""
    attributes = {"messaging.system": "dapr", "messaging.message.id": identity}
    span = _tracer.start_span(f"publish {label}", kind=SpanKind.PRODUCER, attributes=attributes)
    span.end()
    if not span.get_span_context().is_valid:
        return cause.traceparent, cause.tracestate
    carrier: dict[str, str] = {}
    _propagator.inject(carrier, trace.set_span_in_context(span))
    return carrier.get("traceparent", ""), carrier.get("tracestate", "")


@contextmanager
def consumer(envelope: Envelope, subscription: str) -> Iterator[Ending]:
    """A span around the handling of an event, linked to the span that published it."""
    carrier = {"traceparent": envelope.traceparent, "tracestate": envelope.tracestate}
    published = trace.get_current_span(_propagator.extract(carrier)).get_span_context()
    attributes = {
        "messaging.system": "dapr",
        "messaging.message.id": envelope.id,
        "messaging.destination.name": envelope.topic,
        "messaging.consumer.group.name": subscription,
        "tidings.correlation_id": envelope.correlationid,
    }
    links = [Link(published)] if published.is_valid else []
    with _tracer.start_as_current_span(
        f"process {envelope.label}", kind=SpanKind.CONSUMER, links=links, attributes=attributes
    ) as span:
        yield Ending(span)


class Ending:
    """How a handling ended, told to its span."""

    def __init__(self, span: trace.Span) -> None:
        self._span = span

    def __call__(self, outcome: Outcome) -> None:
        """Mark the span as failed where the event was not handled."""
        self._span.set_attribute("tidings.outcome", type(outcome).__name__)
        if isinstance(outcome, Retry | DeadLetter):
            self._span.set_status(Status(StatusCode.ERROR, outcome.reason))
