"""Spans across publish and consume, with a real tracer provider that keeps them in memory."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import msgspec
import pytest
from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from tidings import DeadLetter, Event, Handlers, Service, StateContext, event
from tidings.errors import DefinitionError
from tidings.messages.envelope import Envelope
from tidings.observability import tracing
from tidings.testing import MemorySidecar


@event("shop.itemAsked", subject="item")
class Asked(Event):
    item: str


@event("shop.itemGiven", subject="item")
class Given(Event):
    item: str


@pytest.fixture
def exported(monkeypatch: pytest.MonkeyPatch) -> Iterator[InMemorySpanExporter]:
    exporter = InMemorySpanExporter()
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    monkeypatch.setattr(tracing, "_tracer", provider.get_tracer("tidings"))
    monkeypatch.setattr(tracing._state, "on", True)
    yield exporter
    provider.shutdown()


def asked(**attributes: str) -> bytes:
    envelope = Envelope(
        id="e-1", source="test", type="shop.itemAsked", specversion="1.0", version="1", correlationid="c-1",
        traceparent=f"00-{'a' * 32}-{'b' * 16}-01", topic="shop.itemAsked.v1", data=msgspec.Raw(b'{"item":"pie"}'),
    )  # fmt: skip
    return msgspec.structs.replace(envelope, **attributes).encode()


async def give(message: Asked, context: StateContext) -> DeadLetter | None:
    if message.item == "none":
        return DeadLetter("nothing left")
    context.publish(Given(item=message.item))
    return None


async def handled(body: bytes) -> list[dict[str, str]]:
    handlers = Handlers()
    handlers.on(Asked)(give)
    sidecar = MemorySidecar("shop")
    service = Service("shop", handlers, sidecar=sidecar)
    await service.start()
    await service.ingress.deliver("/events/shop.itemAsked.v1", body)
    async with asyncio.timeout(60):
        while service.outbox.depth:  # noqa: ASYNC110 - delivered in the background
            await asyncio.sleep(0.01)
    await service.stop()
    return sidecar.broker.events("shop.itemGiven.v1")


async def test_a_consumer_links_to_its_producer_and_is_the_parent_of_what_it_publishes(
    exported: InMemorySpanExporter,
) -> None:
    (given,) = await handled(asked())
    publish, process = exported.get_finished_spans()
    assert (process.name, publish.name) == ("process shop.itemAsked.v1", "publish shop.itemGiven.v1")
    assert [format(link.context.trace_id, "032x") for link in process.links] == ["a" * 32]
    assert process.parent is None
    assert publish.parent is not None
    assert publish.parent.span_id == process.context.span_id
    assert process.attributes is not None
    assert process.attributes["tidings.correlation_id"] == "c-1"
    assert process.attributes["tidings.outcome"] == "Done"
    span = publish.context
    assert given["traceparent"].startswith(f"00-{span.trace_id:032x}-{span.span_id:016x}-")


async def test_an_event_that_is_given_up_marks_its_span(exported: InMemorySpanExporter) -> None:
    await handled(asked(data=msgspec.Raw(b'{"item":"none"}')))  # type: ignore[arg-type]
    (process,) = exported.get_finished_spans()
    assert process.status.status_code is trace.StatusCode.ERROR
    assert process.status.description == "nothing left"


async def test_without_a_provider_the_cause_is_passed_on() -> None:
    assert tracing._state.on is False
    (given,) = await handled(asked())
    assert given["traceparent"] == f"00-{'a' * 32}-{'b' * 16}-01"


def test_an_endpoint_without_an_exporter_is_told_at_the_start(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:4318")
    monkeypatch.setitem(__import__("sys").modules, "opentelemetry.exporter.otlp.proto.http.trace_exporter", None)
    with pytest.raises(DefinitionError, match=r"install tidings\[otlp\]"):
        tracing.configure("shop")
