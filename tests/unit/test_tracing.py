"""Spans across publish and consume, with a real tracer provider that keeps them in memory."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import msgspec
import pytest
from opentelemetry import baggage, context, trace
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from tidings import DeadLetter, Event, Handlers, Service, StateContext, command, event
from tidings.errors import DefinitionError
from tidings.messages.envelope import Envelope
from tidings.observability import tracing
from tidings.testing import MemorySidecar


@event("shop.itemAsked", subject="item")
class Asked(Event):
    item: str


@command("shop.wrapItem", subject="item")
class Wrap(Event):
    item: str


@event("shop.itemGiven", subject="item")
class Handed(Event):
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
    if message.item == "later":
        context.schedule(Wrap(item=message.item))
        return None
    if message.item == "tagged":
        tag("shop", "north")
    context.publish(Handed(item=message.item))
    return None


def tag(name: str, value: str) -> None:
    """Add to the baggage of the handling."""
    context.attach(baggage.set_baggage(name, value))


async def wrap(message: Wrap, context: StateContext) -> None:
    context.publish(Handed(item=message.item))


async def handled(
    *bodies: bytes, path: str = "/events/shop.itemAsked.v1", topic: str = "shop.itemGiven.v1"
) -> list[dict[str, str]]:
    handlers = Handlers()
    handlers.on(Asked)(give)
    handlers.on(Wrap)(wrap)
    sidecar = MemorySidecar("shop")
    service = Service("shop", handlers, sidecar=sidecar)
    await service.start()
    for body in bodies:
        await service.ingress.deliver(path, body)
    async with asyncio.timeout(60):
        while service.outbox.depth:  # noqa: ASYNC110 - delivered in the background
            await asyncio.sleep(0.01)
    await service.stop()
    return sidecar.broker.events(topic)


async def test_a_consumer_links_to_its_producer_and_is_the_parent_of_what_it_publishes(
    exported: InMemorySpanExporter,
) -> None:
    (value,) = await handled(asked())
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
    assert value["traceparent"].startswith(f"00-{span.trace_id:032x}-{span.span_id:016x}-")


async def test_a_dead_lettered_event_marks_its_span(exported: InMemorySpanExporter) -> None:
    await handled(asked(data=msgspec.Raw(b'{"item":"none"}')))  # type: ignore[arg-type]
    (process,) = exported.get_finished_spans()
    assert process.status.status_code is trace.StatusCode.ERROR
    assert process.status.description == "nothing left"


async def test_without_a_provider_the_cause_is_passed_on() -> None:
    assert tracing._state.on is False
    (value,) = await handled(asked())
    assert value["traceparent"] == f"00-{'a' * 32}-{'b' * 16}-01"


def test_an_endpoint_without_an_exporter_is_reported_at_the_start(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:4318")
    monkeypatch.setitem(__import__("sys").modules, "opentelemetry.exporter.otlp.proto.http.trace_exporter", None)
    with pytest.raises(DefinitionError, match=r"install tidings\[otlp\]"):
        tracing.configure("shop")


BAGGAGE = "tenant=caf%C3%A9;kept=1,tier=gold"


@pytest.mark.parametrize("traced", [False, True])
async def test_baggage_is_passed_on_as_it_came(traced: bool, request: pytest.FixtureRequest) -> None:
    if traced:
        request.getfixturevalue("exported")
    (value,) = await handled(asked(baggage=BAGGAGE))
    assert value["baggage"] == BAGGAGE


async def test_a_handler_adds_to_the_baggage_of_its_own_event_only() -> None:
    tagged = asked(baggage="tier=gold", data=msgspec.Raw(b'{"item":"tagged"}'))  # type: ignore[arg-type]
    plain = asked(id="e-2", data=msgspec.Raw(b'{"item":"pie"}'))  # type: ignore[arg-type]
    first, second = await handled(tagged, plain)
    assert set(first["baggage"].split(",")) == {"tier=gold", "shop=north"}
    assert "baggage" not in second


@pytest.mark.parametrize("wrong", ["no pair", "=", "a=b,=,;;", "x" * 9_000, "é=ü"])
async def test_baggage_that_is_none_does_no_harm(wrong: str) -> None:
    (value,) = await handled(asked(baggage=wrong))
    assert value["type"] == "shop.itemGiven"


@pytest.mark.parametrize("traced", [False, True])
async def test_a_scheduled_message_belongs_to_the_trace_that_scheduled_it(
    traced: bool, request: pytest.FixtureRequest
) -> None:
    exporter: InMemorySpanExporter | None = request.getfixturevalue("exported") if traced else None
    (value,) = await handled(asked(baggage=BAGGAGE, data=msgspec.Raw(b'{"item":"later"}')))  # type: ignore[arg-type]
    assert value["baggage"] == BAGGAGE
    if exporter is None:
        assert value["traceparent"] == f"00-{'a' * 32}-{'b' * 16}-01"
        return
    spans = {span.name: span for span in exporter.get_finished_spans()}
    scheduled, wrapped = spans["publish shop.wrapItem.v1"], spans["process shop.wrapItem.v1"]
    assert [link.context.span_id for link in wrapped.links] == [scheduled.context.span_id]
    assert wrapped.parent is None


async def test_a_dead_letter_keeps_trace_context_and_baggage() -> None:
    (letter,) = await handled(
        asked(baggage=BAGGAGE, tracestate="vendor=1", data=msgspec.Raw(b'{"item":"none"}')),  # type: ignore[arg-type]
        topic="deadletter.shop",
    )
    assert letter["traceparent"] == f"00-{'a' * 32}-{'b' * 16}-01"
    assert (letter["tracestate"], letter["baggage"]) == ("vendor=1", BAGGAGE)


async def test_a_replayed_handling_links_to_the_original_trace_and_names_the_replay(
    exported: InMemorySpanExporter,
) -> None:
    replayed = asked(baggage=BAGGAGE, replayto="shop.itemAsked.v1", replayid="r-1")
    (value,) = await handled(replayed, path="/events/replay")
    (process,) = [span for span in exported.get_finished_spans() if span.name.startswith("process")]
    assert [format(link.context.trace_id, "032x") for link in process.links] == ["a" * 32]
    assert process.attributes is not None
    assert process.attributes["tidings.replay_id"] == "r-1"
    assert value["baggage"] == BAGGAGE


async def test_a_request_publishes_with_its_own_baggage_or_that_of_its_context() -> None:
    sidecar = MemorySidecar("shop")
    service = Service("shop", sidecar=sidecar)
    await service.start()
    await service.execute(wrap, Wrap(item="given"), baggage=BAGGAGE)
    token = context.attach(baggage.set_baggage("tier", "gold"))
    await service.execute(wrap, Wrap(item="ambient"))
    context.detach(token)
    await service.execute(wrap, Wrap(item="none"))
    async with asyncio.timeout(60):
        while service.outbox.depth:  # noqa: ASYNC110 - delivered in the background
            await asyncio.sleep(0.01)
    await service.stop()
    published = {event["data"]["item"]: event.get("baggage") for event in sidecar.broker.events("shop.itemGiven.v1")}
    assert published == {"given": BAGGAGE, "ambient": "tier=gold", "none": None}
