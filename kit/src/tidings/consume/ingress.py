"""Where the sidecar delivers events: a raw ASGI route with two-phase decoding.

The metadata is decoded first; it says which handler is meant and so into what the data is decoded. FastAPI's
per-request machinery is left out: it costs several times what an event needs.
"""

from __future__ import annotations

import asyncio
import secrets
import time
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass
from functools import lru_cache, partial
from typing import Any

import structlog

from tidings.consume import bulk
from tidings.consume.batches import Together
from tidings.consume.deadletters import Attempts, DeadLetterPublisher, Failed, malformed
from tidings.consume.delayed import Delayed, DelayedRetries
from tidings.consume.departure import Departure, Departures
from tidings.consume.handlers import Handler
from tidings.consume.limits import Limiter
from tidings.consume.policy import Policy, RetryPolicy, SubscriptionPolicy
from tidings.consume.replays import ReplayReports
from tidings.consume.runner import Runner, failed
from tidings.errors import MalformedEvent
from tidings.messages import envelope as envelopes
from tidings.messages.delivery import Cause
from tidings.messages.envelope import Envelope, Received
from tidings.observability import metrics, tracing
from tidings.outcomes import DeadLetter, Drop, Outcome, Postponed, Retry

log = structlog.get_logger(__name__)

PREFIX = "/events/"
REPLAY = "/events/replay"
IGNORED = "/events/ignored"
"""Where the sidecar brings what none of the service's filters wants; see `tidings_plan.conventions`."""

_SUCCESS, _RETRY = b'{"status":"SUCCESS"}', b'{"status":"RETRY"}'
# daprd takes a 200 whose body it cannot read to the end for success, and the event is gone where that body said RETRY
# (daprd 1.18, subscription/postman/http): what is not done is said by the status, which comes first.
_STATUS = {_RETRY: 503}
_NONE: list[Route] = []

Receive = Callable[[], Awaitable[Any]]
Send = Callable[[Any], Awaitable[None]]
Acknowledge = Callable[[], Awaitable[None]]


@dataclass(slots=True)
class Route:
    """A handler at a path, under the subscription that feeds it."""

    handler: Handler
    policy: SubscriptionPolicy
    limiter: Limiter | None
    together: Together | None

    def takes(self, envelope: Envelope) -> bool:
        """Whether the handler reads this type and version."""
        if self.handler.subscriptions:
            return True
        return envelope.type == self.handler.kind.name and _version(envelope) in self.handler.versions


@dataclass(frozen=True, slots=True)
class _Ended:
    """A delivery whose outcome is known; `unread` is True where no handler takes the event."""

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
        source: The service's name.
        handlers: What it handles.
        policy: What its EventSubscriptions ask for.
        runner: Runs a handler as a unit of work.
        dead_letters: Publishes dead letters.
        token: What the sidecar must send as `dapr-api-token`; None asks for nothing.

    """

    def __init__(
        self,
        source: str,
        handlers: Iterable[Handler],
        policy: Policy,
        runner: Runner,
        dead_letters: DeadLetterPublisher,
        token: str | None = None,
    ) -> None:
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
        self.in_flight = 0
        self._idle = asyncio.Event()
        self._idle.set()

    async def __call__(self, scope: Any, receive: Receive, send: Send) -> None:
        """Answer one delivery as an ASGI application."""
        if self._token is not None and not _authorised(scope, self._token):
            return await _answer(send, 401, b'{"error":"dapr-api-token is missing or wrong"}')
        if scope["method"] != "POST":
            return await _answer(send, 405, b'{"error":"events are delivered by POST"}')
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

    async def drained(self, patience: float) -> bool:
        """Wait up to `patience` seconds until nothing is being handled; whether that came about."""
        try:
            async with asyncio.timeout(patience):
                await self._idle.wait()
        except TimeoutError:
            return False
        return True

    async def deliver(self, path: str, body: bytes) -> bytes:
        """Handle what the sidecar delivered at a path, one CloudEvent or many; answers what the sidecar is told."""
        answer = await self._respond(path, body)
        assert answer is not None  # noqa: S101 - nobody has acknowledged it before
        return answer

    async def _respond(self, path: str, body: bytes, acknowledge: Acknowledge | None = None) -> bytes | None:
        """Handle a delivery and answer what the sidecar is told; None where it has been acknowledged meanwhile."""
        entries = bulk.entries(body)
        if entries is None:
            return await self._deliver(path, body, acknowledge)
        answers = await bulk.gather(partial(self._deliver, path, entry.body) for entry in entries)
        return bulk.answer(entries, answers)

    async def retry(self, delayed: Delayed) -> None:
        """Retry an event that has left the broker's queue, until it has its outcome."""
        await self.delayed.run(delayed, self._retried)

    async def _retried(self, delayed: Delayed) -> bool:
        self._attempts.resume(delayed.subscription, delayed.identity, delayed.attempts, delayed.first)
        return await self._deliver(delayed.path, delayed.body) == _SUCCESS

    async def _deliver(self, path: str, body: bytes, acknowledge: Acknowledge | None = None) -> bytes | None:
        routes = self._routes.get(path, _NONE)
        try:
            envelope = envelopes.decode(body)
        except MalformedEvent as error:
            return await self._malformed(path, routes, body, str(error))
        if path == IGNORED:
            self._ignored(envelope)
            return _SUCCESS
        return await self._handle(path, routes, envelope, body, acknowledge)

    def _ignored(self, envelope: Envelope) -> None:
        for name in self._readers.get(envelope.topic, ()):
            metrics.safely(metrics.ignored, name)

    async def _malformed(self, path: str, routes: list[Route], body: bytes, reason: str) -> bytes | None:
        """Dead-letter what cannot be read, unless a handler takes whatever its subscription delivers.

        That goes for what no filter wants, too: a filter has judged something else than an event.
        """
        envelope = envelopes.salvage(body, reason)
        if any(route.handler.subscriptions for route in routes):
            return await self._handle(path, routes, envelope, body)
        name = routes[0].policy.name if routes else path.removeprefix(PREFIX)
        letter = malformed(body, envelope, reason, name)
        metrics.safely(metrics.handled, name, letter.outcome, 0.0)
        outcome = await self._dead_letters.publish(letter, routes[0].policy.dead_letter_topic if routes else None)
        return _RETRY if isinstance(outcome, Retry) else _SUCCESS

    async def _handle(
        self, path: str, routes: list[Route], envelope: Envelope, body: bytes, acknowledge: Acknowledge | None = None
    ) -> bytes | None:
        if path == REPLAY:
            routes = self._replays.get(envelope.replayto, _NONE)
        route = _taking(routes, envelope)
        policy = route.policy if route else routes[0].policy if routes else None
        name = policy.name if policy else path.removeprefix(PREFIX)
        if self.delayed.holds(path, name, envelope.identity):
            return _SUCCESS
        attempt, first = self._attempts.current(name, envelope.identity)
        ended = _Ended(path, name, policy, envelope, body, attempt, first, route is None)
        departure = self._departure(route, ended, acknowledge)
        outcome = await self._attempted(route, ended, departure)
        if departure is None:
            return await self._conclude(ended, outcome)

        async def conclusion() -> bool:
            return await self._conclude(ended, outcome) == _SUCCESS

        return None if await departure.concluded(conclusion) else await self._conclude(ended, outcome)

    def _departure(self, route: Route | None, ended: _Ended, acknowledge: Acknowledge | None) -> Departure | None:
        """Prepare the event's way out of the queue, which it takes if its attempt is slow."""
        if route is None or acknowledge is None or route.together or not self._departures.allowed(route.policy):
            return None
        delayed = Delayed(
            ended.path, ended.subscription, ended.envelope.identity, ended.attempt - 1, ended.first, ended.body
        )
        return self._departures.of(delayed, route.policy, acknowledge)

    async def _attempted(self, route: Route | None, ended: _Ended, departure: Departure | None) -> Outcome:
        name, attempt, policy, outcome = ended.subscription, ended.attempt, ended.policy, None
        started = time.perf_counter()
        if attempt == 1 and ended.path != REPLAY:
            metrics.safely(metrics.aged, name, ended.envelope.time, ended.first)
        try:
            with tracing.consumer(ended.envelope, name) as traced:
                outcome = await self._outcome(route, ended, departure)
                traced(outcome)
        except BaseException as error:  # noqa: BLE001 - whatever is raised around a handler is an outcome, too
            outcome = outcome or failed(error, name, attempt, policy.retry if policy else RetryPolicy())
        metrics.safely(metrics.handled, name, outcome, time.perf_counter() - started)
        return outcome

    async def _conclude(self, ended: _Ended, outcome: Outcome) -> bytes:
        """Do what an outcome asks for; answers what the sidecar is told."""
        name, envelope, reached = ended.subscription, ended.envelope, outcome
        if isinstance(outcome, DeadLetter):
            letter = Failed(ended.body, envelope, outcome, name, ended.attempt, ended.first)
            outcome = await self._dead_letters.publish(letter, ended.policy.dead_letter_topic if ended.policy else None)
        if ended.path == REPLAY and envelope.replayid and not isinstance(outcome, Retry):
            outcome = await self._reports.publish(envelope, name, reached, unread=ended.unread)
        if not isinstance(outcome, Retry):
            self._attempts.forget(name, envelope.identity)
            return _SUCCESS
        attempts = ended.attempt - isinstance(outcome, Postponed)
        delayed = Delayed(ended.path, name, envelope.identity, attempts, ended.first, ended.body)
        if await self.delayed.take(delayed, outcome, ended.policy):
            self._attempts.forget(name, envelope.identity)
            return _SUCCESS
        if not isinstance(outcome, Postponed):
            self._attempts.failed(name, envelope.identity, ended.first)
        return _RETRY

    async def _outcome(self, route: Route | None, ended: _Ended, departure: Departure | None) -> Outcome:
        envelope = ended.envelope
        if route is None:
            return _nobody(envelope, ended.path)
        whole = Received(envelope, ended.body, route.policy.topic) if route.handler.subscriptions else None
        cause = Cause(self._source, envelope, ended.subscription, ended.attempt, route.handler.once, whole)
        if route.limiter is None:  # as a rule; a call less
            return await self._attempt(route, cause, departure)
        return await route.limiter.once(cause.key, partial(self._within_limits, route, route.limiter, cause, departure))

    async def _within_limits(
        self, route: Route, limiter: Limiter, cause: Cause, departure: Departure | None
    ) -> Outcome:
        if not limiter.limits:
            return await self._attempt(route, cause, departure)
        with metrics.waiting(route.policy.name) as admitted:
            async with limiter(_ordering_key(route.policy, cause.envelope)):
                admitted()
                return await self._attempt(route, cause, departure)

    async def _attempt(self, route: Route, cause: Cause, departure: Departure | None) -> Outcome:
        policy = route.policy
        if route.together is not None:
            return await route.together.attempt(cause, policy.retry, policy.timeout)
        if departure is None:
            return await self._runner.attempt(route.handler, cause, policy.retry, policy.timeout)
        with departure:
            return await self._runner.attempt(route.handler, cause, policy.retry, policy.timeout)


def _routes(handlers: Iterable[Handler], policy: Policy, runner: Runner) -> dict[str, list[Route]]:
    by_path = policy.by_path()
    limiters: dict[str, Limiter] = {}
    routes: dict[str, list[Route]] = {}
    for handler in sorted(handlers, key=lambda each: bool(each.subscriptions)):  # who knows the type goes first
        lists: dict[str, Together] = {}  # by subscription: each remembers by its own name what it has handled
        for subscription in _all_feeding(handler, policy, by_path):
            name = subscription.name
            limiter = limiters.setdefault(name, _limiter(subscription)) if _limits(subscription, handler) else None
            together = lists.setdefault(name, Together(runner, handler)) if handler.together else None
            routes.setdefault(subscription.path, []).append(Route(handler, subscription, limiter, together))
    return routes


def _taking(routes: list[Route], envelope: Envelope) -> Route | None:
    for route in routes:
        if route.takes(envelope):
            return route
    return None


def _readers(policy: Policy) -> dict[str, set[str]]:
    """The subscriptions that read each topic."""
    found: dict[str, set[str]] = {}
    for each in policy.subscriptions:
        if not each.suspend:
            found.setdefault(each.topic, set()).add(each.name)
            metrics.reads(each.name, each.topic)
    return found


def _replays(routes: dict[str, list[Route]]) -> dict[str, list[Route]]:
    """The routes of each subscription by its name, and all of them by `*`."""
    found: dict[str, list[Route]] = {}
    for route in (each for near in routes.values() for each in near if not each.handler.subscriptions):
        found.setdefault(route.policy.name, []).append(route)
        found.setdefault("*", []).append(route)
    return found


def _all_feeding(
    handler: Handler, policy: Policy, by_path: dict[str, list[SubscriptionPolicy]]
) -> list[SubscriptionPolicy]:
    if handler.subscriptions:
        return [each for each in policy.subscriptions if each.name in handler.subscriptions]
    return [subscription for path in handler.paths for subscription in _feeding(handler, path, by_path)]


def _feeding(handler: Handler, path: str, by_path: dict[str, list[SubscriptionPolicy]]) -> list[SubscriptionPolicy]:
    """The subscriptions that deliver a handler's events at a path; without a policy, one with the defaults."""
    found = [subscription for subscription in by_path.get(path, []) if subscription.type == handler.kind.name]
    return found or [SubscriptionPolicy(name=path.removeprefix(PREFIX), type=handler.kind.name, path=path)]


def _limits(subscription: SubscriptionPolicy, handler: Handler) -> bool:
    """Whether deliveries go through a limiter: also those of a list, which must not hold one event twice."""
    return bool(
        handler.together or subscription.max_concurrency or subscription.rate_limit or subscription.ordering.is_ordered
    )


def _limiter(subscription: SubscriptionPolicy) -> Limiter:
    return Limiter(subscription.max_concurrency, subscription.rate_limit, ordered=subscription.ordering.is_ordered)


def _ordering_key(policy: SubscriptionPolicy, envelope: Envelope) -> str:
    return str(getattr(envelope, policy.ordering.key, "")) or envelope.subject


def _version(envelope: Envelope) -> int:
    """The event's major version; 0, which nobody reads, where it says none."""
    return int(envelope.version) if envelope.version.isdecimal() else 0


def _nobody(envelope: Envelope, path: str) -> Outcome:
    if path == REPLAY:
        return Drop(f"a replay for {envelope.replayto}, which reads no {envelope.label} in this service")
    if not envelope.version:
        return DeadLetter("the event's metadata has no version", "MissingMetadata")
    return DeadLetter(f"no handler at {path} reads {envelope.label}", "UnknownEventType")


def _authorised(scope: Any, token: bytes) -> bool:
    sent = next((value for name, value in scope["headers"] if name == b"dapr-api-token"), b"")
    return secrets.compare_digest(sent, token)


async def _body(receive: Receive) -> bytes | None:
    """The whole request body; None where the sidecar went away."""
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


@lru_cache(maxsize=16)  # the answers to one event are four
def _messages(status: int, body: bytes) -> tuple[dict[str, Any], dict[str, Any]]:
    headers = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
    start = {"type": "http.response.start", "status": status, "headers": headers}
    return start, {"type": "http.response.body", "body": body}
