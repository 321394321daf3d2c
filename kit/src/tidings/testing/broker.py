"""In-memory pub/sub: a durable broker with the consuming half of every app's sidecar."""

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

from tidings.conventions import TOKEN_HEADER
from tidings.errors import DefinitionError, TopicMissing
from tidings.messages.envelope import UNREADABLE
from tidings.testing.asgi import App, post
from tidings.testing.retries import attempts
from tidings.testing.rules import NoVerdict, read, route, validation_errors

Verdict = Literal["done", "drop", "retry"]
Queued = tuple[int, bytes]
MAX_DELIVERIES = 10_000
_VERDICTS: dict[str, Verdict] = {"": "done", "SUCCESS": "done", "DROP": "drop"}


class Unsettled(AssertionError):
    """The system does not settle: after thousands of deliveries, more are pending."""


@dataclass(frozen=True, slots=True)
class Delivery:
    """An attempt to deliver a message to an app, as recorded in `MemoryBroker.deliveries`."""

    app_id: str
    topic: str
    path: str
    message: bytes
    verdict: Verdict


@dataclass(slots=True)
class _App:
    """An app and the settings of its sidecar; `app` is None while it is down."""

    app: App | None
    token: str | None
    attempts: int | None


@dataclass(slots=True)
class _Consumer:
    """An app's durable subscription to a topic."""

    app_id: str
    topic: str
    subscription: dict[str, Any]
    waiting: deque[Queued]
    parked: list[Queued] = field(default_factory=list)


class MemoryBroker:
    """Topics, subscriptions and deliveries of a whole system of apps, without delays or randomness.

    Deliveries happen only in `await broker.settle()`, which delivers all messages in the order of publishing. Retries
    happen immediately. The behaviour is that of JetStream behind daprd 1.18: topics retain their messages, so that an
    app that is attached later receives all of them, and an app that is down misses none.

    Args:
        pubsub: Name of the pub/sub component.
        topics: Topics that exist, as JetStream requires streams; None creates topics on use, as Redis does.
        shuffle: A seeded `random.Random` to deliver in random order, because brokers do not guarantee the order.

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
        self._settling = asyncio.Lock()

    def attach(
        self,
        app_id: str,
        app: App,
        subscriptions: Iterable[dict[str, Any]],
        *,
        resiliency: dict[str, Any] | None = None,
        token: str | None = None,
    ) -> None:
        """Start or restart an app: its Dapr Subscriptions determine the messages that it receives.

        Args:
            app_id: Dapr app id.
            app: An ASGI app; the caller runs its lifespan (`tidings.testing.lifespan`).
            subscriptions: Dapr Subscriptions (v2alpha1), as rendered from the plan.
            resiliency: The app's Dapr Resiliency; without one, a message has one attempt.
            token: Value of the header `dapr-api-token`.

        Raises:
            DefinitionError: A subscription names another pub/sub component, or repeats a topic, which daprd would
                silently ignore; or a rule is malformed, which would crash daprd.

        """
        self._apps[app_id] = _App(app, token, attempts(resiliency, self.pubsub))
        topics: set[str] = set()
        for subscription in subscriptions:
            scopes, spec = subscription.get("scopes"), subscription["spec"]
            if scopes and app_id not in scopes:
                continue
            if spec["pubsubname"] != self.pubsub or spec["topic"] in topics:
                raise DefinitionError(f"{app_id}: a second subscription to {spec['topic']}, or not on {self.pubsub}")
            if wrong := validation_errors(spec["routes"]):
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
        """Create topics, if the broker requires topics to exist before they are used."""
        if self._topics is not None:
            self._topics.update(topics)

    def detach(self, app_id: str) -> None:
        """Stop an app; messages are kept for it."""
        self._apps[app_id].app = None

    def while_busy(self, work: Callable[[], Awaitable[object]]) -> None:
        """Register an app's background work, such as draining its outbox, which `settle` awaits."""
        self._busy.append(work)

    def publish(self, topic: str, message: bytes) -> None:
        """Store a message and queue it for every consumer, byte for byte.

        Raises:
            TopicMissing: The topic does not exist.

        """
        if self._topics is not None and topic not in self._topics:
            raise TopicMissing(f"{topic}: no stream exists for this topic: add it to MemoryBroker(topics=…)")
        queued = (next(self._numbers), message)
        self._kept[topic].append(queued)
        for consumer in self._consumers.values():
            if consumer.topic == topic:
                consumer.waiting.append(queued)

    def events(self, topic: str) -> list[dict[str, Any]]:
        """Return every event published to a topic so far, decoded."""
        return [json.loads(message) for _, message in self._kept[topic]]

    @property
    def topics(self) -> list[str]:
        """Topics that hold events."""
        return sorted(topic for topic, messages in self._kept.items() if messages)

    def stuck(self) -> list[tuple[str, str, bytes]]:
        """List undelivered messages as (app id, topic, message): their app is down or failed."""
        return [
            (consumer.app_id, consumer.topic, message)
            for consumer in self._consumers.values()
            for _, message in [*consumer.waiting, *consumer.parked]
        ]

    async def settle(self) -> None:
        """Deliver until nothing is in flight and no background work publishes more.

        A message that failed and has no dead-letter topic waits for the next `settle`, which stands for the broker's
        redelivery. An app's `Crash` is raised here; its message is redelivered as well. Concurrent calls run one after
        the other.

        Raises:
            Unsettled: The deliveries do not end.

        """
        async with self._settling:
            await self._settle()

    async def _settle(self) -> None:
        for consumer in self._consumers.values():
            consumer.waiting = deque(sorted([*consumer.parked, *consumer.waiting]))
            consumer.parked.clear()
        for _ in range(MAX_DELIVERIES):
            # Let tasks that handlers started continue; if nothing is queued, run the registered work.
            await asyncio.sleep(0)
            if self._next() is None:
                for work in self._busy:
                    await work()
            following = self._next()
            if following is None:
                return
            await self._hand_over(following)
        raise Unsettled(
            f"not settled after {MAX_DELIVERIES} deliveries, {len(self.stuck())} pending: is there a loop of events?"
        )

    def _next(self) -> _Consumer | None:
        consumers = self._consumers.values()
        ready = [consumer for consumer in consumers if consumer.waiting and self._apps[consumer.app_id].app]
        if not ready:
            return None
        return self._shuffle.choice(ready) if self._shuffle else min(ready, key=lambda consumer: consumer.waiting[0])

    async def _hand_over(self, consumer: _Consumer) -> None:
        index = self._shuffle.randrange(len(consumer.waiting)) if self._shuffle else 0
        queued = consumer.waiting[index]
        verdict, is_final = await self._deliver(consumer, queued[1])  # may raise: the message stays queued
        consumer.waiting.remove(queued)
        dead_letters = consumer.subscription.get("deadLetterTopic")
        if verdict != "done" and is_final and dead_letters:
            self.publish(dead_letters, queued[1])
        elif verdict == "retry":
            consumer.parked.append(queued)

    async def _deliver(self, consumer: _Consumer, message: bytes) -> tuple[Verdict, bool]:
        """Attempt delivery as often as the policy allows; return the last verdict and whether it is final.

        Events that daprd cannot read or route are dropped without an attempt.
        """
        running = self._apps[consumer.app_id]
        try:
            path = route(consumer.subscription["routes"], read(message))
        except (ValueError, NoVerdict):
            return "retry", True
        if path is None:
            return "drop", True
        for _ in range(running.attempts or 1):  # unlimited: once per settle, which would not end otherwise
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
        headers.append((TOKEN_HEADER.encode(), token.encode()))
    try:
        return judge(*await post(app, path, message, headers))
    except Exception:  # noqa: BLE001  # a server responds to any exception with 500
        return "retry"


class _Answer(msgspec.Struct):
    status: str = ""


def judge(status: int, body: bytes) -> Verdict:
    """Interpret an app's response as daprd does.

    404 drops. 2xx is success, unless the body is a JSON object whose `status` is RETRY, DROP, or an unknown value,
    which is a retry. Any other status is a retry.
    """
    if status == HTTPStatus.NOT_FOUND:
        return "drop"
    if not HTTPStatus.OK <= status < HTTPStatus.MULTIPLE_CHOICES:
        return "retry"
    try:
        answer = msgspec.json.decode(body, type=_Answer).status
    except UNREADABLE:
        return "done"
    return _VERDICTS.get(answer, "retry")
