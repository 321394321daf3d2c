"""Conformance tests of a sidecar's pub/sub."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterable
from typing import Any, Protocol

import msgspec
import pytest
from tests.conformance.support import Check, Recorder, event, retry_policy, subscription, unique

from tidings.dapr import Sidecar
from tidings.errors import PublishRefused, SidecarUnavailable, TopicMissing
from tidings.messages.envelope import new_id
from tidings.testing.asgi import App

RETRY, DROP, DONE = b'{"status":"RETRY"}', b'{"status":"DROP"}', b'{"status":"SUCCESS"}'
TRACEPARENT = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


class PubSubWorld(Protocol):
    """A sidecar with a broker, and an app beside it, as the suite needs them."""

    sidecar: Sidecar
    creates_topics: bool
    """Whether a topic comes into being when it is published to; False is JetStream and Kafka."""

    async def run(
        self, app: App, subscriptions: Iterable[dict[str, Any]], resiliency: dict[str, Any] | None, token: str
    ) -> None:
        """Let a sidecar deliver to the app; topics and dead-letter topics named by the subscriptions exist."""

    async def app_down(self) -> None:
        """Take the app away, its sidecar stays."""

    async def app_up(self) -> None:
        """Bring it back."""

    async def until(self, check: Check) -> None:
        """Wait until the check is true."""

    def without_pubsub(self) -> Sidecar:
        """Give a sidecar that has no pub/sub component of the name it asks for."""


class PubSubConformance:
    """Publishing, and what is delivered of it."""

    pytestmark = pytest.mark.asyncio

    @pytest.fixture
    def app(self) -> Recorder:
        """Keep what is delivered."""
        return Recorder()

    @pytest.fixture
    def topic(self) -> str:
        """Name a topic of the test's own."""
        return unique("orders.orderConfirmed")

    async def test_metadata_and_data_arrive_as_they_were_published(
        self, world: PubSubWorld, app: Recorder, topic: str
    ) -> None:
        data = {"orderId": "o-1", "total": 12.5, "big": 12345678901234567890, "note": "<über> & \u2028 \U0001f355"}
        sent = {
            "id": new_id(),
            "source": "orders",
            "type": "orders.orderConfirmed",
            "specversion": "1.0",
            "version": "2",
            "subject": "o-1",
            "time": "2026-11-23T12:00:00.123456Z",
            "datacontenttype": "application/json",
            "correlationid": "c-1",
            "causationid": "e-0",
            "traceparent": TRACEPARENT,
            "tracestate": "vendor=1,other=2",
            "failurereason": "none of ours",
            "data": data,
        }
        await world.run(app, [subscription(topic, "/events/a")], None, "secret")
        await world.sidecar.publish(topic, json.dumps(sent).encode())
        await world.until(lambda: app.received)
        received = app.at("/events/a")[0]
        assert {name: received[name] for name in sent} == sent
        assert {"topic": topic, "pubsubname": "pubsub", "traceid": TRACEPARENT}.items() <= received.items()
        assert app.headers[0]["content-type"] == "application/cloudevents+json"
        assert app.headers[0]["dapr-api-token"] == "secret"

    async def test_an_event_without_a_trace_arrives(self, world: PubSubWorld, app: Recorder, topic: str) -> None:
        await world.run(app, [subscription(topic, "/events/a")], None, "")
        await world.sidecar.publish(topic, event(id="e-1").encode())
        await world.until(lambda: app.received)
        assert app.ids("/events/a") == ["e-1"]
        assert app.at("/events/a")[0]["version"] == "2"

    @pytest.mark.parametrize("answer", [(200, b""), (204, b""), (200, DONE), (200, b"thanks"), (200, b'["RETRY",500]')])
    async def test_any_2xx_without_another_status_is_a_success(
        self, world: PubSubWorld, app: Recorder, topic: str, answer: tuple[int, bytes]
    ) -> None:
        dead = unique("dead")
        app.answers["/events/a"] = [answer]
        await world.run(app, [subscription(topic, "/events/a", dead), subscription(dead, "/d")], retry_policy(2), "")
        await _one_after_the_other(world, app, topic, "e-1", "e-2")
        assert app.received == [("/events/a", item) for item in app.at("/events/a")]
        assert app.ids("/events/a") == ["e-1", "e-2"]

    async def test_anything_else_is_tried_again(self, world: PubSubWorld, app: Recorder, topic: str) -> None:
        failures = [(500, b""), (200, RETRY), (200, b'{"status":"WHATEVER"}'), (401, b""), (302, b"")]
        app.answers["/events/a"] = [*failures, (200, DONE)]
        await world.run(app, [subscription(topic, "/events/a")], retry_policy(10), "")
        await world.sidecar.publish(topic, event(id="e-1").encode())
        await world.until(lambda: len(app.received) > len(failures))
        await world.sidecar.publish(topic, event(id="e-2").encode())
        await world.until(lambda: "e-2" in app.ids("/events/a"))
        assert app.ids("/events/a") == ["e-1"] * (len(failures) + 1) + ["e-2"]

    async def test_after_the_last_retry_it_goes_to_the_dead_letter_topic(
        self, world: PubSubWorld, app: Recorder, topic: str
    ) -> None:
        dead = unique("dead")
        app.answers["/events/a"] = [(500, b"")]
        await world.run(app, [subscription(topic, "/events/a", dead), subscription(dead, "/dead")], retry_policy(2), "")
        await world.sidecar.publish(topic, event(id="e-1", traceparent=TRACEPARENT, correlationid="c-1").encode())
        await world.until(lambda: app.at("/dead"))
        assert app.ids("/events/a") == ["e-1"] * 3
        letter = app.at("/dead")[0]
        assert (letter["id"], letter["traceparent"], letter["correlationid"]) == ("e-1", TRACEPARENT, "c-1")
        assert letter["topic"] == topic

    async def test_without_a_retry_policy_one_attempt_is_made(
        self, world: PubSubWorld, app: Recorder, topic: str
    ) -> None:
        dead = unique("dead")
        app.answers["/events/a"] = [(500, b"")]
        await world.run(app, [subscription(topic, "/events/a", dead), subscription(dead, "/dead")], None, "")
        await world.sidecar.publish(topic, event(id="e-1").encode())
        await world.until(lambda: app.at("/dead"))
        assert app.ids("/events/a") == ["e-1"]

    @pytest.mark.parametrize("answer", [(404, b""), (200, DROP)])
    async def test_404_and_drop_are_dead_letters_immediately(
        self, world: PubSubWorld, app: Recorder, topic: str, answer: tuple[int, bytes]
    ) -> None:
        dead = unique("dead")
        app.answers["/events/a"] = [answer]
        await world.run(app, [subscription(topic, "/events/a", dead), subscription(dead, "/dead")], retry_policy(5), "")
        await world.sidecar.publish(topic, event(id="e-1").encode())
        await world.until(lambda: app.at("/dead"))
        assert app.ids("/events/a") == ["e-1"]

    async def test_drop_without_a_dead_letter_topic_is_final(
        self, world: PubSubWorld, app: Recorder, topic: str
    ) -> None:
        app.answers["/events/a"] = [(200, DROP), (200, DONE)]
        await world.run(app, [subscription(topic, "/events/a")], retry_policy(5), "")
        await _one_after_the_other(world, app, topic, "e-1", "e-2")
        assert app.ids("/events/a") == ["e-1", "e-2"]

    async def test_the_first_rule_that_is_true_routes(self, world: PubSubWorld, app: Recorder, topic: str) -> None:
        rules = [
            {"match": 'has(event.subject) && event.subject.startsWith("vip-")', "path": "/vip"},
            {"match": "has(event.data.total) && event.data.total > 20", "path": "/large"},
            {"match": 'event.version == "1"', "path": "/old"},
        ]
        await world.run(app, [subscription(topic, {"rules": rules, "default": "/rest"})], None, "")
        data = {"both": 30, "large": 20.5, "small": 20}
        for name, total in data.items():
            subject, content = "vip-1" if name == "both" else "o-1", msgspec.Raw(b'{"total":%a}' % total)
            await world.sidecar.publish(topic, event(id=name, subject=subject, data=content).encode())
        await world.sidecar.publish(topic, event(id="v1", version="1", data=msgspec.Raw(b"{}")).encode())
        await world.until(lambda: len(app.received) == 4)
        assert sorted((path, result["id"]) for path, result in app.received) == [
            ("/large", "large"), ("/old", "v1"), ("/rest", "small"), ("/vip", "both"),
        ]  # fmt: skip

    @pytest.mark.parametrize(
        "match",
        [
            'event.version == "1"',
            "event.nothing == 1",
            "has(event.data.total)",  # the event has no data at all
        ],
    )
    async def test_what_no_rule_takes_or_a_rule_fails_on_is_a_dead_letter(
        self, world: PubSubWorld, app: Recorder, topic: str, match: str
    ) -> None:
        """No match without a default is lost where there is no dead-letter topic: always plan a default."""
        dead = unique("dead")
        routes = {"rules": [{"match": match, "path": "/events/a"}]}
        await world.run(app, [subscription(topic, routes, dead), subscription(dead, "/dead")], retry_policy(2), "")
        await world.sidecar.publish(topic, event(id="e-1").encode())
        await world.until(lambda: app.at("/dead"))
        assert app.received[0][0] == "/dead"

    async def test_what_is_published_while_the_app_is_down_waits_for_it(
        self, world: PubSubWorld, app: Recorder, topic: str
    ) -> None:
        await world.run(app, [subscription(topic, "/events/a")], retry_policy(-1), "")
        await world.app_down()
        names = [f"e-{number}" for number in range(5)]
        for name in names:
            await world.sidecar.publish(topic, event(id=name).encode())
        await world.app_up()
        await world.until(lambda: set(names) <= set(app.ids("/events/a")))

    async def test_every_concurrently_published_event_arrives(
        self, world: PubSubWorld, app: Recorder, topic: str
    ) -> None:
        await world.run(app, [subscription(topic, "/events/a")], None, "")
        names = [f"e-{number}" for number in range(100)]
        await asyncio.gather(*(world.sidecar.publish(topic, event(id=name).encode()) for name in names))
        await world.until(lambda: len(app.received) >= len(names))
        assert sorted(app.ids("/events/a")) == sorted(names)

    async def test_many_are_published_in_one_call(self, world: PubSubWorld, app: Recorder, topic: str) -> None:
        await world.run(app, [subscription(topic, "/events/a")], None, "")
        names = [f"e-{number}" for number in range(50)]
        sent = [event(id=name, traceparent=TRACEPARENT, correlationid=f"c-{name}").encode() for name in names]
        assert await world.sidecar.publish_many(topic, sent) == [None] * len(names)
        await world.until(lambda: len(app.received) >= len(names))
        assert sorted(app.ids("/events/a")) == sorted(names)
        assert {item["traceparent"] for item in app.at("/events/a")} == {TRACEPARENT}
        assert all(item["correlationid"] == f"c-{item['id']}" for item in app.at("/events/a"))
        assert await world.sidecar.publish_many(topic, []) == []

    async def test_one_that_is_refused_does_not_hold_up_the_rest(
        self, world: PubSubWorld, app: Recorder, topic: str
    ) -> None:
        await world.run(app, [subscription(topic, "/events/a")], None, "")
        sent = [event(id="first").encode(), b"no event", event(id="last").encode()]
        first, refused, last = await world.sidecar.publish_many(topic, sent)
        assert (first, last) == (None, None)
        assert isinstance(refused, PublishRefused)
        await world.until(lambda: len(app.received) >= 2)
        assert sorted(app.ids("/events/a")) == ["first", "last"]

    async def test_an_unknown_topic_is_refused_by_brokers_that_create_none(
        self, world: PubSubWorld, app: Recorder, topic: str
    ) -> None:
        await world.run(app, [], None, "")
        if world.creates_topics:
            await world.sidecar.publish(topic, event().encode())
        else:
            with pytest.raises(TopicMissing, match=rf"{topic}.*stream"):
                await world.sidecar.publish(topic, event().encode())
            failures = await world.sidecar.publish_many(topic, [event().encode(), event().encode()])
            # After some failures on a topic, Kafka's client asks the broker no more for ten seconds.
            assert all(
                isinstance(failure, TopicMissing) or "circuit breaker is open" in str(failure) for failure in failures
            )
            assert len(failures) == 2

    async def test_an_unknown_component_may_be_loaded_later(
        self, world: PubSubWorld, app: Recorder, topic: str
    ) -> None:
        await world.run(app, [subscription(topic, "/events/a")], None, "")
        lost = world.without_pubsub()
        with pytest.raises(SidecarUnavailable, match="nowhere"):
            await lost.publish(topic, event().encode())
        assert not await lost.ready()

    @pytest.mark.parametrize("body", [b"", b"{", b"[]", b"text", b'{"id": 1', b"\xff"])
    async def test_what_is_no_json_object_is_refused(
        self, world: PubSubWorld, app: Recorder, topic: str, body: bytes
    ) -> None:
        await world.run(app, [subscription(topic, "/events/a")], None, "")
        with pytest.raises(PublishRefused):
            await world.sidecar.publish(topic, body)


async def _one_after_the_other(world: PubSubWorld, app: Recorder, topic: str, *names: str) -> None:
    """Publish each event once the one before was delivered: brokers promise no order."""
    for name in names:
        await world.sidecar.publish(topic, event(id=name).encode())
        await world.until(lambda name=name: name in app.ids("/events/a"))  # type: ignore[misc]
