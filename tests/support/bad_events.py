"""A stream of numbered good events with bad ones of every known kind among them, through a real sidecar and broker."""

from __future__ import annotations

import asyncio
import json
import subprocess
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec
import nats
import pika  # type: ignore[import-untyped]  # it has no types
from kafka import KafkaProducer  # type: ignore[import-untyped]  # it has no types
from tests.support.brokers import values_of

from tidings import Event, Handlers, Rejected, Service, event
from tidings.brokers.components import render
from tidings.brokers.jetstream import ensure_streams
from tidings.brokers.kafka import Address, ensure_topics
from tidings.brokers.rabbitmq import ensure_queues
from tidings.consume import bulk
from tidings.consume.policy import Policy
from tidings.dapr.client import DaprSidecar
from tidings.errors import SidecarUnavailable, StateConflict
from tidings.fastapi import create_app
from tidings.messages.envelope import new_id
from tidings.settings import Settings
from tidings_plan import AppPlan, plan
from tidings_plan.resources import Inventory, parse_resource
from tidings_plan.resources.loading import add_components

SETS = Path(__file__).parents[2] / "components"
NAME = f"shop.item{new_id()[-6:]}Sold"
SHARE = 20
"""One in so many events is bad."""
TRIES = 2


@event(NAME)
class Sold(Event):
    number: int
    sent: float = 0.0
    trouble: str = ""


class Sale(Event):
    number: int


def envelope(number: int, **changes: Any) -> dict[str, Any]:
    """Return a good event."""
    return {
        "specversion": "1.0", "id": f"e{number}", "source": "shop", "type": NAME, "version": "1",
        "datacontenttype": "application/json", "data": {"number": number, "sent": time.time()}, **changes,
    }  # fmt: skip


def _trouble(number: int, kind: str) -> dict[str, Any]:
    return envelope(number, data={"number": number, "trouble": kind})


def _deep(number: int) -> bytes:
    good = json.dumps(envelope(number, data={"number": number, "trouble": "DEEP"})).encode()
    return good.replace(b'"DEEP"', b"[" * 1200 + b"]" * 1200)


BAD: dict[str, Callable[[int], dict[str, Any] | bytes]] = {
    "the handler raises": lambda number: _trouble(number, "raise"),
    "the handler hangs": lambda number: _trouble(number, "hang"),
    "the handler rejects": lambda number: _trouble(number, "reject"),
    "the handler ends the process": lambda number: _trouble(number, "exit"),
    "the data is of another class": lambda number: envelope(number, data={"number": "many"}),
    "nobody reads the version": lambda number: envelope(number, version="7"),
    "the version is 5,000 digits long": lambda number: envelope(number, version="9" * 5000),
    "nested 1,200 deep": _deep,
    "a time without a zone": lambda number: envelope(number, time="2026-11-28T10:00:00"),
    "control characters": lambda number: envelope(number, subject="\x1b[31m"),
    "no type": lambda number: {key: value for key, value in envelope(number).items() if key != "type"},
    "an array": lambda number: json.dumps([number]).encode(),
    "no JSON": lambda number: b"number %d" % number,
    "no UTF-8": lambda number: b"\xff\xfe %d" % number,
}
"""Each kind of bad event, made for a number; every one of them ends among the dead letters."""
ODD: dict[str, Callable[[int], dict[str, Any]]] = {
    "a number as traceid": lambda number: envelope(number, traceid=12345),
    "null attributes": lambda number: envelope(number, subject=None, time=None),
    "a document in conflict at first": lambda number: _trouble(number, "conflict"),
    "a handler that fails at first": lambda number: _trouble(number, "once"),
}
"""Odd events that are handled all the same."""


@dataclass(slots=True)
class Shop:
    """The handled events, and the duration of each."""

    handled: Counter[int] = field(default_factory=Counter)
    tried: Counter[int] = field(default_factory=Counter)
    latency: dict[int, float] = field(default_factory=dict)
    hanging: int = 0
    service: Service | None = None

    async def until_handled(self, numbers: Collection[int], patience: float = 180.0) -> Counter[int]:
        """Wait until these events are handled, and return how often each was.

        An attempt that timed out may have been committed all the same: its document shows that, since nothing called it
        back, and the next attempt found the event handled.
        """
        assert self.service is not None, "set by `running`"
        committed: set[int] = set()
        async with asyncio.timeout(patience):
            while missing := set(numbers) - self.handled.keys() - committed:
                for number in missing & self.tried.keys():
                    with suppress(SidecarUnavailable):  # no answer in time on a busy machine: look again
                        if await self.service.execute(_find, number) is not None:
                            committed.add(number)
                await asyncio.sleep(0.05)
        return Counter(dict.fromkeys(committed, 1) | self.handled)

    def handlers(self, topic: str) -> Handlers:
        handlers = Handlers()

        @handlers.on(Sold, path=f"/events/{topic}")
        async def sell(sold: Sold, context: Any) -> None:
            self.tried[sold.number] += 1
            await self._trouble(sold)
            assert await context.load(Sale, f"{sold.number}") is None
            context.save(f"{sold.number}", Sale(number=sold.number))
            context.after_commit(lambda: self._done(sold))

        return handlers

    async def _trouble(self, sold: Sold) -> None:
        first = self.tried[sold.number] == 1
        if sold.trouble == "hang":
            self.hanging += 1
            try:
                await asyncio.Event().wait()
            finally:
                self.hanging -= 1
        errors: dict[str, BaseException] = {
            "raise": ValueError("always"),
            "reject": Rejected("never wanted"),
            "exit": SystemExit(3),
            **({"conflict": StateConflict("others"), "once": ValueError("once")} if first else {}),
        }
        if error := errors.get(sold.trouble):
            raise error

    def _done(self, sold: Sold) -> None:
        self.handled[sold.number] += 1
        if sold.sent:
            self.latency[sold.number] = time.time() - sold.sent


async def _find(number: int, context: Any) -> Sale | None:
    found: Sale | None = await context.load(Sale, f"{number}")
    return found


@dataclass(slots=True)
class Archive:
    """Takes dead letters, as a second app."""

    letters: list[dict[str, Any]] = field(default_factory=list)

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        body, more = b"", True
        while more:
            message = await receive()
            body, more = body + message.get("body", b""), message.get("more_body", False)
        entries = bulk.entries(body) or []
        self.letters += [json.loads(entry.body) for entry in entries]
        answer = bulk.answer(entries, [b'{"status":"SUCCESS"}'] * len(entries)) if entries else b"[]"
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-type", b"application/json")]})
        await send({"type": "http.response.body", "body": answer})


class Late:
    """An app whose port is open before the app is there, because it needs the sidecar's address."""

    def __init__(self) -> None:
        self.app: Any = None

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if self.app is not None:
            await self.app(scope, receive, send)
        else:
            await send({"type": "http.response.start", "status": 503, "headers": []})
            await send({"type": "http.response.body", "body": b""})


def topic_of(app: str) -> str:
    """Return the app's topic: events that another test left on a shared broker have the same ids."""
    return f"{NAME}.v1.{app}"


def planned(app: str, component: dict[str, Any], timeout: str = "3s") -> AppPlan:
    """Plan an app with one subscription, whose handler may take that long."""
    inventory = Inventory()
    add_components(inventory, [component])
    kind = {
        "type": NAME, "owner": {"team": "t"}, "producers": ["shop"], "versions": [{"name": "v1", "schema": {}}],
        "channel": {"topic": topic_of(app)},
    }  # fmt: skip
    requested = {
        "events": [{"type": NAME, "versions": ["v1"]}], "consumer": {"appId": app},
        "delivery": {"timeout": timeout, "retry": {"duration": "50ms", "maxInterval": "200ms", "maxRetries": TRIES}},
    }  # fmt: skip
    meta = {"apiVersion": "tidings.dev/v1alpha1", "metadata": {"name": "sold"}}
    for item, spec in (("EventType", kind), ("EventSubscription", requested)):
        resource, findings = parse_resource({**meta, "kind": item, "spec": spec})
        assert resource is not None, findings
        inventory.put(resource)
    return plan(inventory).apps[app]


def letters_subscription(app: str, reader: str) -> dict[str, Any]:
    return {
        "apiVersion": "dapr.io/v2alpha1", "kind": "Subscription", "metadata": {"name": "letters"},
        "spec": {
            "pubsubname": "pubsub", "topic": f"deadletter.{app}", "routes": {"default": "/letters"},
            "bulkSubscribe": {"enabled": True, "maxMessagesCount": 1, "maxAwaitDurationMs": 1000},
            "metadata": {"rawPayload": "true"},
        },
        "scopes": [reader],
    }  # fmt: skip


@asynccontextmanager
async def running(
    broker: str,
    address: str,
    app: str,
    folder: Path,
    daprd: Any,
    serve: Any,
    timeout: str = "3s",
    *,
    changed: Mapping[str, str] = {},
    state: dict[str, Any] | None = None,
) -> AsyncIterator[tuple[Shop, list[dict[str, Any]], Callable[[list[bytes]], Awaitable[None]]]]:
    """Run the shop and its archive beside real sidecars; gives what it did, and how to publish to its topic.

    Settings of the broker's component may be `changed`; `state` is another store's component than SQLite's.
    """
    [component] = render(SETS / broker, values_of(broker, address))
    for setting in component["spec"]["metadata"]:
        setting["value"] = changed.get(setting["name"], setting["value"])
    result, shop, late, reader = planned(app, component, timeout), Shop(), Late(), f"{app}-archive"
    archive = Archive()
    letters, topic = letters_subscription(app, reader), topic_of(app)
    topics = [
        topic,
        *(name for rights in (result.reads, result.publishes) for names in rights.values() for name in names),
    ]
    if broker == "nats":
        await ensure_streams(address, topics)
    if broker == "rabbitmq":
        ensure_queues(address, [*((app, subscription) for subscription in result.subscriptions), (reader, letters)])
    if broker == "kafka":
        await asyncio.to_thread(ensure_topics, address, topics)
    served, archived = await serve(late), await serve(archive)
    [sqlite] = render(SETS / "state-sqlite", {"STATE_FILE": f"{folder}/state.db?_pragma=synchronous(0)"})
    resources = [component, state or sqlite, *result.subscriptions, result.resiliency]
    process = await daprd(app, resources=resources, app_port=served.port)
    await daprd(reader, resources=[component, letters], app_port=archived.port)
    sidecar, policy = DaprSidecar(process.address), msgspec.convert(result.policy, Policy)
    service = Service(app, shop.handlers(topic), settings=Settings(), sidecar=sidecar, policy=policy)
    late.app, shop.service = create_app(service), service
    await service.start()
    try:
        yield shop, archive.letters, lambda events: publish(broker, address, topic, events)
    finally:
        await service.stop()


async def publish(broker: str, address: str, topic: str, events: list[bytes]) -> None:
    """Publish bytes straight to the broker: a sidecar would refuse the worst of them."""
    if broker == "nats":
        client = await nats.connect(address)
        for item in events:
            await client.jetstream().publish(topic, item)
        await client.close()
    elif broker == "redis":
        await asyncio.to_thread(_publish_on_redis, address, topic, events)
    elif broker == "rabbitmq":
        await asyncio.to_thread(_publish_on_rabbitmq, address, topic, events)
    else:
        await asyncio.to_thread(publish_on_kafka, address, topic, dict.fromkeys(events))


def _publish_on_redis(address: str, topic: str, events: list[bytes]) -> None:
    host, port = address.split(":")
    words = [[b"XADD", topic.encode(), b"*", b"data", item] for item in events]
    text = b"".join(b"*%d\r\n" % len(line) + b"".join(b"$%d\r\n%s\r\n" % (len(w), w) for w in line) for line in words)
    subprocess.run(["redis-cli", "-h", host, "-p", port, "--pipe"], input=text, capture_output=True, check=True)


def _publish_on_rabbitmq(address: str, topic: str, events: list[bytes]) -> None:
    connection = pika.BlockingConnection(pika.URLParameters(address))
    channel = connection.channel()
    for item in events:
        channel.basic_publish(topic, "", item, pika.BasicProperties(delivery_mode=2))
    connection.close()


def publish_on_kafka(address: str, topic: str, events: Mapping[bytes, str | None]) -> None:
    """Publish bytes, each with its key."""
    producer = KafkaProducer(**Address.of(address).client)
    sent = [producer.send(topic, value=item, key=key.encode() if key else None) for item, key in events.items()]
    for entry in sent:
        entry.get(timeout=60)
    producer.close()


def encoded(made: dict[str, Any] | bytes) -> bytes:
    """Return the bytes of an event."""
    return made if isinstance(made, bytes) else json.dumps(made).encode()
