"""Event ingress: a raw ASGI route with two-phase decoding.

The envelope is decoded first; it determines the handler, and thereby the type of the data. FastAPI's per-request
machinery is bypassed, because it costs several times as much as handling an event.
"""

from __future__ import annotations

import asyncio
import secrets
import time
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass
from functools import lru_cache, partial
from itertools import chain
from typing import Any

import structlog

from tidings.consume import bulk
from tidings.consume.batches import Batcher
from tidings.consume.deadletters import Attempts, DeadLetterPublisher, FailedDelivery, malformed
from tidings.consume.delayed import Delayed, DelayedRetries, outside_queue
from tidings.consume.departure import Departure, Departures
from tidings.consume.handlers import Handler
from tidings.consume.limits import Limiter
from tidings.consume.policy import Policy, RetryPolicy, SubscriptionPolicy
from tidings.consume.replays import ReplayReports
from tidings.consume.runner import Runner, outcome_of_error
from tidings.conventions import EVENTS_PATH, IGNORED_PATH, REPLAY_PATH, TOKEN_HEADER
from tidings.errors import MalformedEvent
from tidings.messages import envelope as envelopes
from tidings.messages.delivery import DeliveryContext
from tidings.messages.envelope import Envelope, Received
from tidings.observability import metrics, tracing
from tidings.outcomes import DeadLetter, Drop, Outcome, Postponed, Retry

log = structlog.get_logger(__name__)

_TOKEN_HEADER = TOKEN_HEADER.encode()  # as ASGI has it
_SUCCESS, _RETRY = b'{"status":"SUCCESS"}', b'{"status":"RETRY"}'
# daprd treats a 200 with a truncated body as success, which would lose an event whose body was RETRY
# (daprd 1.18, subscription/postman/http). The status arrives before the body, so it signals failures.
_STATUS = {_RETRY: 503}
_NONE: list[Route] = []

Receive = Callable[[], Awaitable[Any]]
Send = Callable[[Any], Awaitable[None]]
Acknowledge = Callable[[], Awaitable[None]]


@dataclass(slots=True)
class Route:
    """A handler at a path, and the subscription that delivers to it."""

    handler: Handler
    policy: SubscriptionPolicy
    limiter: Limiter | None
    batcher: Batcher | None

    def takes(self, envelope: Envelope) -> bool:
        """Return True if the handler reads this type and version."""
        if self.handler.subscriptions:
            return True
        return envelope.type == self.handler.kind.name and _version(envelope) in self.handler.versions


@dataclass(frozen=True, slots=True)
class _Inbound:
    """A delivery that is being attempted; `unread` is True if no handler takes the event."""

    path: str
    subscription: str
    policy: SubscriptionPolicy | None
    envelope: Envelope
    body: bytes
    attempt: int
    first: float
    unread: bool


class Ingress:
    """Delivers events to handlers.

    Args:
        source: Name of the service.
        handlers: Handlers of the service.
        policy: Settings of its EventSubscriptions.
        runner: Runs a handler as a unit of work.
        dead_letters: Publishes dead letters.
        token: Required value of the header `dapr-api-token`; None disables the check.
        read_policy: Reads the policy again, which gets new types while the app runs; None if it never changes.

    """

    def __init__(
        self,
        source: str,
        handlers: Iterable[Handler],
        policy: Policy,
        runner: Runner,
        dead_letters: DeadLetterPublisher,
        token: str | None = None,
        read_policy: Callable[[], Policy] | None = None,
    ) -> None:
        handlers = [*handlers]
        self.delayed = DelayedRetries(source, runner)
        self._departures = Departures(self.delayed)
        self._source = source
        self._runner = runner
        self._dead_letters = dead_letters
        self._token = token.encode() if token else None
        self._attempts = Attempts()
        self._reports = ReplayReports(source, dead_letters.sidecar)
        self._routes = _routes(handlers, policy, runner)
        self._replays = _replays(self._routes)
        self._readers = _readers(policy)
        self._of_any_type = [handler for handler in handlers if handler.subscriptions]
        self._read_policy = read_policy if self._of_any_type else None
        self.in_flight = 0
        self._idle = asyncio.Event()
        self._idle.set()

    async def __call__(self, scope: Any, receive: Receive, send: Send) -> None:
        """Handle a delivery as an ASGI application."""
        if self._token is not None:
            sent = next((value for name, value in scope["headers"] if name == _TOKEN_HEADER), b"")
            if not secrets.compare_digest(sent, self._token):
                return await _answer(send, 401, b'{"error":"the header dapr-api-token is missing or wrong"}')
        if scope["method"] != "POST":
            return await _answer(send, 405, b'{"error":"use POST to deliver events"}')
        body = await _body(receive)
        if body is None:
            return None
        self.in_flight += 1
        self._idle.clear()
        try:
            answer = await self._respond(scope["path"], body, partial(_answer, send, 200, _SUCCESS))
        finally:
            self.in_flight -= 1
            if not self.in_flight:
                self._idle.set()
        return None if answer is None else await _answer(send, _STATUS.get(answer, 200), answer)

    async def drained(self, grace_period: float) -> bool:
        """Wait up to `grace_period` seconds until no delivery is in flight; return True if that happened."""
        try:
            async with asyncio.timeout(grace_period):
                await self._idle.wait()
        except TimeoutError:
            return False
        return True

    async def deliver(self, path: str, body: bytes) -> bytes:
        """Handle a request of the sidecar, with one event or a bulk; return the response body."""
        answer = await self._respond(path, body)
        assert answer is not None  # noqa: S101 - only deliveries with `acknowledge` return None
        return answer

    async def _respond(self, path: str, body: bytes, acknowledge: Acknowledge | None = None) -> bytes | None:
        """Handle a request and return the response body, or None if the event was acknowledged early."""
        entries = bulk.entries(body)
        if entries is None:
            return await self._deliver(path, body, acknowledge)
        answers = await bulk.gather(partial(self._deliver, path, entry.body) for entry in entries)
        return bulk.answer(entries, answers)

    async def retry(self, delayed: Delayed) -> None:
        """Retry a delayed event until it has its outcome."""
        await self.delayed.run(delayed, self._retry_once)

    async def _retry_once(self, delayed: Delayed) -> bool:
        self._attempts.resume(delayed.subscription, delayed.identity, delayed.attempts, delayed.first)
        return await self._deliver(delayed.path, delayed.body) == _SUCCESS

    async def _deliver(self, path: str, body: bytes, acknowledge: Acknowledge | None = None) -> bytes | None:
        routes = self._routes.get(path)
        if routes is None and (routes := self._added_routes(path)) is None:
            return _RETRY
        try:
            envelope = envelopes.decode(body)
        except MalformedEvent as error:
            return await self._malformed(path, routes, body, str(error))
        if path == IGNORED_PATH:
            for name in self._readers.get(envelope.topic, ()):
                metrics.safely(metrics.ignored, name)
            return _SUCCESS
        return await self._handle(path, routes, envelope, body, acknowledge)

    def _added_routes(self, path: str) -> list[Route] | None:
        """Return the routes of a path that is new in the policy; None if it may be new there soon.

        A subscription to all types gets new ones while the app runs. The sidecar knows them at once, but a ConfigMap
        reaches the app's volume only after a minute or two.
        """
        if self._read_policy is None or path in (IGNORED_PATH, REPLAY_PATH):
            return _NONE
        policy = self._read_policy()
        for added, routes in _routes(self._of_any_type, policy, self._runner).items():
            self._routes.setdefault(added, routes)
        self._readers = _readers(policy)
        return self._routes.get(path)

    async def _malformed(self, path: str, routes: list[Route], body: bytes, reason: str) -> bytes | None:
        """Dead-letter a malformed event, unless a handler takes events of any type.

        This includes malformed events at `IGNORED_PATH`, whose filters have evaluated something that is not an event.
        """
        envelope = envelopes.salvage(body, reason)
        if any(route.handler.subscriptions for route in routes):
            return await self._handle(path, routes, envelope, body)
        name = routes[0].policy.name if routes else path.removeprefix(EVENTS_PATH)
        letter = malformed(body, envelope, reason, name)
        metrics.safely(metrics.handled, name, letter.outcome, 0.0)
        outcome = await self._dead_letters.publish(letter, routes[0].policy.dead_letter_topic if routes else None)
        return _RETRY if isinstance(outcome, Retry) else _SUCCESS

    async def _handle(
        self, path: str, routes: list[Route], envelope: Envelope, body: bytes, acknowledge: Acknowledge | None = None
    ) -> bytes | None:
        if path == REPLAY_PATH:
            routes = self._replays.get(envelope.replayto, _NONE)
        route = next((route for route in routes if route.takes(envelope)), None)
        policy = route.policy if route else routes[0].policy if routes else None
        name = policy.name if policy else path.removeprefix(EVENTS_PATH)
        if self.delayed.holds(path, name, envelope.identity):
            return _SUCCESS
        attempt, first = self._attempts.current(name, envelope.identity)
        inbound = _Inbound(path, name, policy, envelope, body, attempt, first, route is None)
        departure = self._departure(route, inbound, acknowledge)
        if departure is None:
            return await self._conclude(inbound, await self._attempt_traced(route, inbound, None))
        answer = _RETRY
        try:
            outcome = await self._attempt_traced(route, inbound, departure)
            left = await departure.left()
            with outside_queue(left):
                answer = await self._conclude(inbound, outcome)
        finally:
            departure.close(done=answer == _SUCCESS)
        return None if left else answer

    def _departure(self, route: Route | None, inbound: _Inbound, acknowledge: Acknowledge | None) -> Departure | None:
        """Prepare the event's early departure from the queue, in case its attempt is slow."""
        if route is None or acknowledge is None or route.batcher or route.policy.ordering.is_ordered:
            return None
        delayed = Delayed(
            inbound.path,
            inbound.subscription,
            inbound.envelope.identity,
            inbound.attempt - 1,
            inbound.first,
            inbound.body,
        )
        return self._departures.of(delayed, route.policy, acknowledge)

    async def _attempt_traced(self, route: Route | None, inbound: _Inbound, departure: Departure | None) -> Outcome:
        name, attempt, policy, outcome = inbound.subscription, inbound.attempt, inbound.policy, None
        started = time.perf_counter()
        if attempt == 1 and inbound.path != REPLAY_PATH:
            metrics.safely(metrics.aged, name, inbound.envelope.age(inbound.first))
        try:
            with tracing.consumer(inbound.envelope, name) as record_outcome:
                outcome = await self._outcome(route, inbound, departure)
                record_outcome(outcome)
        except BaseException as error:  # noqa: BLE001 - errors outside the handler, such as in tracing, are outcomes too
            outcome = outcome or outcome_of_error(error, name, attempt, policy.retry if policy else RetryPolicy())
        metrics.safely(metrics.handled, name, outcome, time.perf_counter() - started)
        return outcome

    async def _conclude(self, inbound: _Inbound, outcome: Outcome) -> bytes:
        """Act on an outcome and return the response for the sidecar."""
        name, envelope, handler_outcome = inbound.subscription, inbound.envelope, outcome
        if isinstance(outcome, DeadLetter):
            letter = FailedDelivery(inbound.body, envelope, outcome, name, inbound.attempt, inbound.first)
            outcome = await self._dead_letters.publish(
                letter, inbound.policy.dead_letter_topic if inbound.policy else None
            )
        if inbound.path == REPLAY_PATH and envelope.replayid and not isinstance(outcome, Retry):
            outcome = await self._reports.publish(envelope, name, handler_outcome, unread=inbound.unread)
        if not isinstance(outcome, Retry):
            self._attempts.forget(name, envelope.identity)
            return _SUCCESS
        attempts = inbound.attempt - isinstance(outcome, Postponed)  # a postponed attempt does not count
        delayed = Delayed(inbound.path, name, envelope.identity, attempts, inbound.first, inbound.body)
        if await self.delayed.take(delayed, outcome, inbound.policy):
            self._attempts.forget(name, envelope.identity)
            return _SUCCESS
        if not isinstance(outcome, Postponed):
            self._attempts.failed(name, envelope.identity, inbound.first)
        return _RETRY

    async def _outcome(self, route: Route | None, inbound: _Inbound, departure: Departure | None) -> Outcome:
        envelope = inbound.envelope
        if route is None:
            return _unhandled(envelope, inbound.path)
        received = Received(envelope, inbound.body, route.policy.topic) if route.handler.subscriptions else None
        deduplicate = route.handler.deduplicate
        delivery = DeliveryContext(self._source, envelope, inbound.subscription, inbound.attempt, deduplicate, received)
        if route.limiter is None:  # the common case, without the overhead of a further call
            return await self._attempt(route, delivery, departure)
        attempt = partial(self._within_limits, route, route.limiter, delivery, departure)
        return await route.limiter.deduplicate(delivery.key, attempt)

    async def _within_limits(
        self, route: Route, limiter: Limiter, delivery: DeliveryContext, departure: Departure | None
    ) -> Outcome:
        if not limiter.limits:
            return await self._attempt(route, delivery, departure)
        with metrics.waiting(route.policy.name) as admitted:
            async with limiter(_ordering_key(route.policy, delivery.envelope)):
                admitted()
                return await self._attempt(route, delivery, departure)

    async def _attempt(self, route: Route, delivery: DeliveryContext, departure: Departure | None) -> Outcome:
        policy = route.policy
        if route.batcher is not None:
            return await route.batcher.attempt(route.handler, delivery, policy.retry, policy.timeout)
        if departure is None:
            return await self._runner.attempt(route.handler, delivery, policy.retry, policy.timeout)
        with departure:
            return await self._runner.attempt(route.handler, delivery, policy.retry, policy.timeout)


def _routes(handlers: Iterable[Handler], policy: Policy, runner: Runner) -> dict[str, list[Route]]:
    by_path = policy.by_path()
    limiters: dict[str, Limiter] = {}
    routes: dict[str, list[Route]] = {}
    # One per subscription, because the subscription's name is part of the deduplication key.
    batchers: dict[tuple[object, str], Batcher] = {}
    # Handlers of a type take precedence over handlers of any type.
    for handler in sorted(handlers, key=lambda handler: bool(handler.subscriptions)):
        for subscription in _subscriptions_of(handler, policy, by_path):
            name = subscription.name
            limiter = limiters.setdefault(name, _limiter(subscription)) if _limits(subscription, handler) else None
            shared = handler.function, name
            batcher = batchers.setdefault(shared, Batcher(runner)) if handler.batch_size else None
            routes.setdefault(subscription.path, []).append(Route(handler, subscription, limiter, batcher))
    return routes


def _readers(policy: Policy) -> dict[str, set[str]]:
    """Group the subscriptions by the topic they read."""
    readers: dict[str, set[str]] = {}
    for subscription in policy.subscriptions:
        if not subscription.suspend:
            readers.setdefault(subscription.topic, set()).add(subscription.name)
            metrics.reads(subscription.name, subscription.topic)
    return readers


def _replays(routes: dict[str, list[Route]]) -> dict[str, list[Route]]:
    """Group the routes by subscription; `*` has all of them."""
    replays: dict[str, list[Route]] = {}
    for route in chain.from_iterable(routes.values()):
        if not route.handler.subscriptions:
            replays.setdefault(route.policy.name, []).append(route)
            replays.setdefault("*", []).append(route)
    return replays


def _subscriptions_of(
    handler: Handler, policy: Policy, by_path: dict[str, list[SubscriptionPolicy]]
) -> list[SubscriptionPolicy]:
    """Return the subscriptions that deliver to a handler; for a path without any, one with the defaults."""
    if handler.subscriptions:
        return [subscription for subscription in policy.subscriptions if subscription.name in handler.subscriptions]
    found: list[SubscriptionPolicy] = []
    kind = handler.kind.name
    for path in handler.paths:
        configured = [subscription for subscription in by_path.get(path, []) if subscription.type == kind]
        found += configured or [SubscriptionPolicy(name=path.removeprefix(EVENTS_PATH), type=kind, path=path)]
    return found


def _limits(subscription: SubscriptionPolicy, handler: Handler) -> bool:
    """Return True if deliveries need a limiter. Batches do, because an event must not be in a batch twice."""
    return bool(
        handler.batch_size
        or subscription.max_concurrency
        or subscription.rate_limit
        or subscription.ordering.is_ordered
    )


def _limiter(subscription: SubscriptionPolicy) -> Limiter:
    return Limiter(subscription.max_concurrency, subscription.rate_limit, ordered=subscription.ordering.is_ordered)


def _ordering_key(policy: SubscriptionPolicy, envelope: Envelope) -> str:
    return str(getattr(envelope, policy.ordering.key, "")) or envelope.subject


def _version(envelope: Envelope) -> int:
    """Return the event's major version, or 0, which no handler reads."""
    return int(envelope.version) if envelope.version.isdecimal() else 0


def _unhandled(envelope: Envelope, path: str) -> Outcome:
    if path == REPLAY_PATH:
        return Drop(f"replayed to {envelope.replayto}, which has no handler for {envelope.label} in this service")
    if not envelope.version:
        return DeadLetter("the event has no version attribute", "MissingMetadata")
    return DeadLetter(f"no handler for {envelope.label} at {path}", "UnknownEventType")


async def _body(receive: Receive) -> bytes | None:
    """Return the request body, or None if the sidecar disconnected."""
    message = await receive()
    if message["type"] == "http.disconnect":
        return None
    body: bytes = message.get("body", b"")
    if not message.get("more_body"):
        return body
    parts = [body]
    while message.get("more_body"):
        message = await receive()
        if message["type"] == "http.disconnect":
            return None
        parts.append(message.get("body", b""))
    return b"".join(parts)


async def _answer(send: Send, status: int, body: bytes) -> None:
    start, end = _messages(status, body)
    await send(start)
    await send(end)


@lru_cache(maxsize=16)  # bulk responses vary, but single events have only four
def _messages(status: int, body: bytes) -> tuple[dict[str, Any], dict[str, Any]]:
    headers = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
    start = {"type": "http.response.start", "status": status, "headers": headers}
    return start, {"type": "http.response.body", "body": body}
