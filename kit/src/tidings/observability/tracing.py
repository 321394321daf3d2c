"""OpenTelemetry tracing by the messaging conventions: consumer spans link to producer spans.

Spans are exported to `OTEL_EXPORTER_OTLP_ENDPOINT` (OTLP over HTTP, `tidings[otlp]`), or to the tracer provider that
the program has installed. With neither, tracing is disabled at no cost, and published events carry the traceparent of
the event being handled unchanged.

Baggage (W3C) works without tracing: `opentelemetry.baggage` has the baggage of the event being handled, and published
events carry the current baggage.
"""

import os
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from dataclasses import dataclass
from functools import partial

import structlog
from opentelemetry import baggage, context, trace
from opentelemetry.baggage.propagation import W3CBaggagePropagator
from opentelemetry.sdk.resources import SERVICE_NAME, Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.trace import Link, SpanKind, Status, StatusCode
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from tidings.errors import DefinitionError
from tidings.messages.envelope import Envelope
from tidings.outcomes import DeadLetter, Outcome, Retry

log = structlog.get_logger(__name__)

_tracer = trace.get_tracer("tidings")
_propagator = TraceContextTextMapPropagator()
_baggage = W3CBaggagePropagator()

Ending = Callable[[Outcome], None]
"""Called with the outcome of a handling."""


@dataclass
class _State:
    on: bool = False


_state = _State()


def configure(service: str) -> None:
    """Enable tracing if a tracer provider is installed; install one if the environment names an endpoint.

    Raises:
        DefinitionError: `OTEL_EXPORTER_OTLP_ENDPOINT` is set, but the exporter is not installed.

    """
    if os.environ.get("OTEL_EXPORTER_OTLP_ENDPOINT") and _none_installed():
        try:
            from opentelemetry.exporter.otlp.proto.http.trace_exporter import (  # noqa: PLC0415 - an extra
                OTLPSpanExporter,
            )
        except ImportError as error:
            raise DefinitionError(
                "OTEL_EXPORTER_OTLP_ENDPOINT is set, but no exporter is installed: install tidings[otlp]"
            ) from error
        provider = TracerProvider(resource=Resource.create({SERVICE_NAME: service}))
        provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
        trace.set_tracer_provider(provider)
    _state.on = not _none_installed()


def _none_installed() -> bool:
    return isinstance(trace.get_tracer_provider(), trace.ProxyTracerProvider | trace.NoOpTracerProvider)


def producer(label: str, identity: str, parent: Envelope) -> tuple[str, str, str]:
    """Record that an event is published. Return the traceparent, tracestate and baggage for it."""
    carried = _carried_baggage(parent)
    if not _state.on:
        return parent.traceparent, parent.tracestate, carried
    attributes = {"messaging.system": "dapr", "messaging.message.id": identity}
    span = _tracer.start_span(f"publish {label}", kind=SpanKind.PRODUCER, attributes=attributes)
    span.end()
    carrier: dict[str, str] = {}
    _propagator.inject(carrier, trace.set_span_in_context(span))
    return carrier.get("traceparent", ""), carrier.get("tracestate", ""), carried


def _carried_baggage(parent: Envelope) -> str:
    """Return the current baggage; if unchanged from `parent`, return the original text, which may hold properties."""
    current = baggage.get_all()
    if not current or current == baggage.get_all(_with_baggage(parent)):
        return parent.baggage if current else ""
    carrier: dict[str, str] = {}
    _baggage.inject(carrier)
    return carrier.get("baggage", "")


def _with_baggage(envelope: Envelope) -> context.Context:
    """Return the current context with the baggage of an event only."""
    return _baggage.extract({"baggage": envelope.baggage}, baggage.clear())


@contextmanager
def carrying(envelope: Envelope) -> Iterator[None]:
    """Set the current baggage to an event's, even if it has none, so that no other event's baggage is passed on."""
    if not envelope.baggage and not baggage.get_all():
        yield
        return
    token = context.attach(_with_baggage(envelope))
    try:
        yield
    finally:
        context.detach(token)


def consumer(envelope: Envelope, subscription: str, *, detached: bool = False) -> AbstractContextManager[Ending]:
    """Return a span around the handling of an event, linked to the span that published it.

    Set `detached` in a task that was started while another event was handled: the span is then not a child of that
    event's.
    """
    return _span(envelope, subscription, detached) if _state.on else _no_span


@contextmanager
def _span(envelope: Envelope, subscription: str, detached: bool) -> Iterator[Ending]:
    """Trace a handling; an error in tracing does not affect it."""
    with ExitStack() as stack:
        ending: Ending = _ignore_outcome
        try:
            ending = partial(_end, stack.enter_context(_started(envelope, subscription, detached)))
        except Exception as error:
            log.warning("tracing.failed", exc_info=error)
        yield ending


def _started(envelope: Envelope, subscription: str, detached: bool) -> AbstractContextManager[trace.Span]:
    carrier = {"traceparent": envelope.traceparent, "tracestate": envelope.tracestate}
    published = trace.get_current_span(_propagator.extract(carrier)).get_span_context()
    attributes = {
        "messaging.system": "dapr",
        "messaging.message.id": envelope.id,
        "messaging.destination.name": envelope.topic,
        "messaging.consumer.group.name": subscription,
        "tidings.correlation_id": envelope.correlationid,
    }
    if envelope.replayid:
        attributes["tidings.replay_id"] = envelope.replayid
    links = [Link(published)] if published.is_valid else []
    return _tracer.start_as_current_span(
        f"process {envelope.label}",
        context.Context() if detached else None,
        SpanKind.CONSUMER,
        links=links,
        attributes=attributes,
    )


def _end(span: trace.Span, outcome: Outcome) -> None:
    span.set_attribute("tidings.outcome", type(outcome).__name__)
    if isinstance(outcome, Retry | DeadLetter):
        span.set_status(Status(StatusCode.ERROR, outcome.reason))


def _ignore_outcome(_outcome: Outcome) -> None:
    """No-op while tracing is disabled."""


_no_span = nullcontext(_ignore_outcome)
