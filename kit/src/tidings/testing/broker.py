"""Pub/sub in memory: a durable broker together with the delivering half of every app's sidecar."""

from __future__ import annotations

import asyncio
import itertools
import json
import random
from collections import defaultdict, deque
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Any, Literal

import msgspec

from tidings.errors import DefinitionError, TopicMissing
from tidings.testing.asgi import App, post
from tidings.testing.retries import attempts
from tidings.testing.rules import NoVerdict, complaints, read, route

Verdict = Literal["done", "drop", "retry"]
Queued = tuple[int, bytes]
PATIENCE = 10_000
_VERDICTS: dict[str, Verdict] = {"": "done", "SUCCESS": "done", "DROP": "drop"}


class Unsettled(AssertionError):
    """The system keeps itself busy: after thousands of deliveries there is still more to deliver."""


@dataclass(frozen=True, slots=True)
class Delivery:
    """One attempt to hand a message to an app, as `MemoryBroker.deliveries` records it."""

    app_id: str
    topic: str
    path: str
    message: bytes
    verdict: Verdict


@dataclass(slots=True)
class _App:
    """An app with its sidecar's programme; `app` is None while it is down."""

    app: App | None
    token: str | None
    attempts: int | None


@dataclass(slots=True)
class _Consumer:
    """One app's subscription to one topic: what the broker keeps for it, whether the app is up or not."""

    app_id: str
    topic: str
    subscription: dict[str, Any]
    waiting: deque[Queued]
    parked: list[Queued] = field(default_factory=list)


class MemoryBroker:
    """Topics, subscriptions and deliveries of a whole system of apps, without waiting and without chance.

    Nothing is delivered by itself: `await broker.settle()` delivers until nothing is left, message by message in the
    order of publishing. Retries happen at once. The behaviour is that of JetStream behind daprd 1.18: a topic keeps
    its messages, so that an app attached later is given all of them; an app that is down misses nothing.

    Args:
        pubsub: The component's name.
        topics: Those that exist, as JetStream has streams; None creates topics on use, as Redis does.
        shuffle: A seeded `random.Random` delivers in a random order, which brokers may do after all.

    """

    def __init__(
        self, pubsub: str = "pubsub", *, topics: Iterable[str] | None = None, shuffle: random.Random | None = None
    ) -> None:
        self.pubsub = pubsub
        self.deliveries: list[Delivery] = []
        self._topics = None if topics is None else set(topics)
        self._shuffle = shuffle
        self._kept: dict[str, list[Queued]] = defaultdict(list)
        self._numbers = itertools.count()
        self._apps: dict[str, _App] = {}
        self._consumers: dict[tuple[str, str], _Consumer] = {}
        self._busy: list[Callable[[], Awaitable[object]]] = []

    def attach(
        self,
        app_id: str,
        app: App,
        subscriptions: Iterable[dict[str, Any]],
        *,
        resiliency: dict[str, Any] | None = None,
        token: str | None = None,
    ) -> None:
        """Start an app, or start it anew: messages are delivered to it as its Dapr Subscriptions say.

        Args:
            app_id: Its Dapr app id.
            app: An ASGI app; its lifespan is the caller's to run (`tidings.testing.lifespan`).
            subscriptions: Dapr Subscriptions (v2alpha1), as the plan core makes them.
            resiliency: The app's Dapr Resiliency; without one a message has one attempt.
            token: Sent as `dapr-api-token`.

        Raises:
            DefinitionError: A subscription is to another pub/sub component, or a second one to the same topic, which
                daprd would silently ignore; or a rule is malformed, which daprd would die of.

        """
        self._apps[app_id] = _App(app, token, attempts(resiliency, self.pubsub))
        topics: set[str] = set()
        for subscription in subscriptions:
            scopes, spec = subscription.get("scopes"), subscription["spec"]
            if scopes and app_id not in scopes:
                continue
            if spec["pubsubname"] != self.pubsub or spec["topic"] in topics:
                raise DefinitionError(f"{app_id}: a second subscription to {spec['topic']}, or not on {self.pubsub}")
            if wrong := complaints(spec["routes"]):
                raise DefinitionError(f"{app_id}: no rule for a sidecar: {'; '.join(wrong)}")
            topics.add(spec["topic"])
            self._subscribe(app_id, spec)

    def _subscribe(self, app_id: str, spec: dict[str, Any]) -> None:
        known = self._consumers.get((app_id, spec["topic"]))
        if known is not None:
            known.subscription = spec
            return
        waiting = deque(self._kept[spec["topic"]])
        self._consumers[app_id, spec["topic"]] = _Consumer(app_id, spec["topic"], spec, waiting)

    def add_topics(self, topics: Iterable[str]) -> None:
        """Let topics exist, where they must be made before they can be published to."""
        if self._topics is not None:
            self._topics.update(topics)

    def detach(self, app_id: str) -> None:
        """Stop an app: what is published meanwhile waits for it."""
        self._apps[app_id].app = None

    def while_busy(self, work: Callable[[], Awaitable[object]]) -> None:
        """Await an app's background work, such as draining its outbox, before the system counts as settled."""
        self._busy.append(work)

    def publish(self, topic: str, message: bytes) -> None:
        """Keep a message and queue it for every consumer; the bytes are delivered as they are.

        Raises:
            TopicMissing: There is no such topic.

        """
        if self._topics is not None and topic not in self._topics:
            raise TopicMissing(f"{topic}: there is no stream for it: name it in MemoryBroker(topics=…)")
        queued = (next(self._numbers), message)
        self._kept[topic].append(queued)
        for consumer in self._consumers.values():
            if consumer.topic == topic:
                consumer.waiting.append(queued)

    def events(self, topic: str) -> list[dict[str, Any]]:
        """Every event that was published to a topic so far, decoded."""
        return [json.loads(message) for _, message in self._kept[topic]]

    @property
    def topics(self) -> list[str]:
        """The topics that hold events."""
        return sorted(topic for topic, messages in self._kept.items() if messages)

    def stuck(self) -> list[tuple[str, str, bytes]]:
        """List what waits as (app id, topic, message): the app is down, or failed it and has no dead-letter topic."""
        return [
            (each.app_id, each.topic, message)
            for each in self._consumers.values()
            for _, message in [*each.waiting, *each.parked]
        ]

    async def settle(self) -> None:
        """Deliver until nothing is in flight and no background work brings anything new.

        A message that its app failed and that no dead-letter topic takes waits for the next `settle`, as it would for
        the broker to bring it again. An app's `Crash` is raised here; its message is brought again too.

        Raises:
            Unsettled: There is no end to it.

        """
        for consumer in self._consumers.values():
            consumer.waiting = deque(sorted([*consumer.parked, *consumer.waiting]))
            consumer.parked.clear()
        for _ in range(PATIENCE):
            await self._rest()
            following = self._next()
            if following is None:
                return
            await self._hand_over(following)
        raise Unsettled(f"{PATIENCE} deliveries and still going; {len(self.stuck())} wait: is there a loop of events?")

    async def _rest(self) -> None:
        """Let tasks that handlers started go on, and once nothing is queued wait for the registered work."""
        await asyncio.sleep(0)
        if self._next() is None:
            for work in self._busy:
                await work()

    def _next(self) -> _Consumer | None:
        ready = [each for each in self._consumers.values() if each.waiting and self._apps[each.app_id].app]
        if not ready:
            return None
        return self._shuffle.choice(ready) if self._shuffle else min(ready, key=lambda each: each.waiting[0])

    async def _hand_over(self, consumer: _Consumer) -> None:
        index = self._shuffle.randrange(len(consumer.waiting)) if self._shuffle else 0
        queued = consumer.waiting[index]
        verdict, given_up = await self._deliver(consumer, queued[1])  # may raise: then the message is still there
        consumer.waiting.remove(queued)
        dead_letters = consumer.subscription.get("deadLetterTopic")
        if verdict != "done" and given_up and dead_letters:
            self.publish(dead_letters, queued[1])
        elif verdict == "retry":
            consumer.parked.append(queued)

    async def _deliver(self, consumer: _Consumer, message: bytes) -> tuple[Verdict, bool]:
        """Attempt delivery as often as the policy says; gives the last verdict, and whether that was the end of it.

        What daprd cannot read or route is given up without an attempt.
        """
        running = self._apps[consumer.app_id]
        try:
            path = route(consumer.subscription["routes"], read(message))
        except (ValueError, NoVerdict):
            return "retry", True
        if path is None:
            return "drop", True
        for _ in range(running.attempts or 1):  # for ever is once in each settle: there would be no end
            verdict = await _attempt(running.app, running.token, path, message)
            self.deliveries.append(Delivery(consumer.app_id, consumer.topic, path, message, verdict))
            if verdict != "retry":
                return verdict, True
            if running.app is None:
                return "retry", False
        return "retry", running.attempts is not None


async def _attempt(app: App | None, token: str | None, path: str, message: bytes) -> Verdict:
    if app is None:
        return "retry"
    headers = [(b"content-type", b"application/cloudevents+json")]
    if token:
        headers.append((b"dapr-api-token", token.encode()))
    try:
        return judge(*await post(app, path, message, headers))
    except Exception:  # noqa: BLE001  # whatever an app raises, a server turns it into a 500
        return "retry"


class _Answer(msgspec.Struct):
    status: str = ""


def judge(status: int, body: bytes) -> Verdict:
    """Read an app's answer as daprd does.

    404 drops. 2xx is done, unless the body is a JSON object whose `status` says otherwise: RETRY, DROP, or something
    unknown, which is a retry. Anything else is a retry.
    """
    if status == HTTPStatus.NOT_FOUND:
        return "drop"
    if not HTTPStatus.OK <= status < HTTPStatus.MULTIPLE_CHOICES:
        return "retry"
    try:
        answer = msgspec.json.decode(body, type=_Answer).status
    except msgspec.MsgspecError:
        return "done"
    return _VERDICTS.get(answer, "retry")
