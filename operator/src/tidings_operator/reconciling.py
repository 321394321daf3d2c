"""Reconcile apps and types: plan, write differences and patch the status."""

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, date, datetime
from functools import partial
from http import HTTPStatus
from typing import Any, TypeVar

import msgspec
from structlog.contextvars import bind_contextvars

from tidings_operator import children, events, metrics, statuses
from tidings_operator.cache import Cache, ObjectReference, Tracked, encode_status
from tidings_operator.children import Desired, Name, Step
from tidings_operator.client import CHILDREN, OWN, ApiError, Client, Known
from tidings_operator.judging import ALONE, QUICK, THOROUGH, Judge, JudgementError, TooLongError
from tidings_operator.statuses import Failure, Outcome
from tidings_operator.workqueue import Key, WorkQueue
from tidings_plan import AppPlan, assemble_map, cel, map_subscriptions, plan_app, plan_type
from tidings_plan.resources import EventSubscription, EventType, Finding
from tidings_plan.resources.inventory import app_key

LOG = logging.getLogger(__name__)
MAX_SILENT_ATTEMPTS = 3
"""Failed attempts after which a status reports that the API server rejects writes."""
IDLE = 0.1
"""Seconds between checks whether this operator may write."""
MAP_DELAY = 2.0
"""Seconds that changes of a namespace are collected for its system map."""
SECOND_LOOK = 60.0
"""Seconds after which a permanently rejected write is retried nevertheless: permissions and owners change."""

Clock = Callable[[], datetime]
Handler = Callable[[Key], Awaitable[None]]
T = TypeVar("T")


class NotLeaderError(Exception):
    """Another operator is the leader now."""


class MoreTimeError(Exception):
    """The first attempt at an evaluation was too short. Not a JudgementError: nothing is known about the object yet."""


class Reconciler:
    """Processes a queue with several workers, which write only while `may_write` returns True."""

    def __init__(
        self,
        cache: Cache,
        queue: WorkQueue,
        client: Client,
        *,
        identity: str,
        may_write: Callable[[], bool],
        clock: Clock = lambda: datetime.now(UTC),
        judge: Judge | None = None,
    ) -> None:
        self.cache = cache
        self.queue = queue
        self._client = client
        self._identity = identity
        self._may_write = may_write
        self._clock = clock
        self._judge = judge or Judge()
        self._attempts: dict[Key, int] = {}
        self.handlers: dict[str, Handler] = {
            "app": self._app_or_map,
            "EventType": self._type,
            "EventSubscription": self.unreadable,
            "EventReplay": self.unreadable,
        }

    async def work(self) -> None:
        """Process one key after the other, until cancelled."""
        while True:
            key, waited = await self.queue.get()
            while not self._may_write():  # noqa: ASYNC110 - there is no event for the end of a lease
                await asyncio.sleep(IDLE)
            metrics.WAITED.observe(waited)
            started = time.perf_counter()
            bind_contextvars(kind=key.what, namespace=key.namespace, name=key.name)  # onto each line that is logged
            try:
                await self.handlers[key.what](key)
            except ApiError as error:
                self._failed(key, error)
            except NotLeaderError as error:
                LOG.info("%s: it is looked at again", error)
                self.queue.add(key)  # queued again, and then waits for the lease
                self.queue.done(key)
            except MoreTimeError:
                self.queue.slow(key)
                self.queue.add(key)  # with more time, when nothing else waits
                self.queue.done(key)
            except Exception as error:
                # An unexpected error with one object must not affect others: it is logged, counted and retried.
                LOG.exception("%s %s/%s cannot be looked at", *key)
                self._failed(key, ApiError(0, f"{type(error).__name__}: {error}"))
            except BaseException:
                self.queue.failed(key)
                raise
            else:
                self._attempts.pop(key, None)
                self.queue.done(key)
            metrics.RECONCILE.labels(key.what).observe(time.perf_counter() - started)
            await asyncio.sleep(0)  # without writes there was no await: let other tasks run

    def _failed(self, key: Key, error: ApiError) -> None:
        self._attempts[key] = self._attempts.get(key, 0) + 1
        delay = self.queue.failed(key, error.retry_after)
        metrics.ERRORS.labels(key.what, str(error.status)).inc()
        LOG.warning("%s %s/%s: %s; again in %.1f s", key.what, key.namespace, key.name, error, delay)

    async def _app_or_map(self, key: Key) -> None:
        await (self._app(key) if key.name else self._map(key))

    async def _app(self, key: Key) -> None:
        """Program one app, and report the result on each of its subscriptions."""
        app, state = (key.namespace, key.name), self.cache.apps[key.namespace, key.name]
        subscriptions, today = self.cache.inventory.of_app(app), self._today()
        try:
            planned, desired, on_map = await self.judged(key, lambda: self._decide(app, today))
        except JudgementError as error:
            self._draw(app, state.on_map or b"[]")
            await self._unjudged(app, error)
            return
        self._draw(app, on_map)
        if not self.queue.is_slow(key):
            # Compile what a fork has compiled, so that later forks need not.
            for subscription in planned.subscriptions:
                for rule in subscription["spec"]["routes"].get("rules", ()):
                    cel.check(rule["match"])
        steps = children.steps(
            desired,
            state.children,
            state.settled,
            lambda name: (key.namespace, name) in self.cache.inventory.subscriptions,
        )
        failures = await self._carry_out(app, steps, subscriptions)
        broken = next((error for error in failures.values() if not error.is_final), None)
        for child in desired:
            if child.name not in failures and state.settled.get(child.name, ("",))[0] != child.hash:
                state.settled[child.name] = (child.hash, child.hash)
        state.is_planned = True
        if broken and self._attempts.get(key, 0) < MAX_SILENT_ATTEMPTS:
            raise broken
        reported = {name: _failure(error) for name, error in failures.items()}
        outcome = Outcome(planned, desired, reported, state.observation)
        await self._patch_statuses(subscriptions, outcome)
        if broken:
            raise broken
        if failures:
            self.queue.later(key, SECOND_LOOK)
        self.cache.drop_if_empty(app)

    async def judged(self, key: Key, work: Callable[[], T]) -> T:
        """Evaluate in a fork of the operator.

        Raises:
            MoreTimeError: The evaluation exceeds the time of a first attempt; the key is queued in the slow lane.
            JudgementError: The evaluation failed.

        """
        if self.queue.is_slow(key):
            return await self._judge(work, THOROUGH)
        try:
            return await self._judge(work, QUICK)
        except TooLongError as error:
            raise MoreTimeError(str(error)) from error

    def _decide(self, app: tuple[str, str], today: date) -> tuple[AppPlan, list[Desired], bytes]:
        """Plan an app, build its children, and encode its part of the system map. Runs in a fork."""
        subscriptions = self.cache.inventory.of_app(app)
        planned = plan_app(app, self.cache.inventory, today)
        unsuited = [finding for subscription in subscriptions for finding in self.cache.unsuited(subscription)]
        planned = replace(planned, findings=(*unsuited, *planned.findings))
        uids = {subscription.metadata.name: self._tracked(subscription).uid for subscription in subscriptions}
        on_map = msgspec.json.encode(list(map_subscriptions(planned, self.cache.inventory)))
        return planned, children.build(planned, subscriptions, uids), on_map

    def _draw(self, app: tuple[str, str], on_map: bytes) -> None:
        """Record an app's part of the system map, and queue the map if it has changed."""
        state = self.cache.apps[app]
        if state.on_map != on_map:
            state.on_map = on_map
            self._redraw(app[0])

    def _redraw(self, namespace: str) -> None:
        """Queue the system map of a namespace: the key of an app without a name, whose child it is."""
        self.queue.later(Key("app", namespace, ""), MAP_DELAY)

    async def _map(self, key: Key) -> None:
        """Write the system map of a namespace, once all of its apps have been planned."""
        place, state = (key.namespace, ""), self.cache.apps[key.namespace, ""]
        apps = [app for app in self.cache.inventory.consuming_apps if app[0] == key.namespace]
        if any(self.cache.apps[app].on_map is None for app in apps):
            return  # the last one of them queues the map again
        try:
            desired = await self.judged(key, lambda: self._decide_map(key.namespace, apps))
        except JudgementError as error:
            LOG.error("the system map of %s cannot be drawn: %s", key.namespace, error)
            return
        steps = children.steps(desired, state.children, state.settled, lambda _: False)
        failures = await self._carry_out(place, steps, [])
        for failure in failures.values():
            if not failure.is_final:
                raise failure
            # Such as a map of more than a MiB, or one of the same name that somebody else maintains.
            LOG.warning("the system map of %s is not written: %s", key.namespace, failure)
            self.queue.later(key, SECOND_LOOK)
        self.cache.drop_if_empty(place)

    def _decide_map(self, namespace: str, apps: Sequence[tuple[str, str]]) -> list[Desired]:
        """Draw the system map of a namespace, with the types of others that it reads. Runs in a fork."""
        inventory = self.cache.inventory
        types = [
            this for this in inventory.types.values() if this.key[0] == namespace or namespace in self._readers(this)
        ]
        drawn = [entry for app in sorted(apps) for entry in msgspec.json.decode(self.cache.apps[app].on_map or b"[]")]
        subscriptions = [subscription for app in apps for subscription in inventory.of_app(app)]
        uids = {subscription.metadata.name: self._tracked(subscription).uid for subscription in subscriptions}
        return children.build_map(namespace, assemble_map(types, drawn), subscriptions, uids)

    def _readers(self, this: EventType) -> set[str]:
        """Return the namespaces with a subscription to a type."""
        inventory = self.cache.inventory
        return {app_key(reader)[0] for reader in (*inventory.consumers(this), *inventory.observers(this))}

    async def _unjudged(self, app: tuple[str, str], error: JudgementError) -> None:
        """Reject the subscriptions of an app that cannot be evaluated even separately, and queue the others.

        If each can be evaluated, but not all together, all of them report it: nothing is programmed or removed.
        """
        subscriptions, is_isolated = self.cache.inventory.of_app(app), False
        for subscription in subscriptions:
            try:
                await self._judge(partial(self._alone, app, subscription, self._today()), ALONE)
            except JudgementError as why:
                is_isolated = self.cache.reject(subscription, unjudged(subscription.ref, why)) or is_isolated
        for subscription in () if is_isolated else subscriptions:
            await self._patch_unjudged(("EventSubscription", *subscription.key), unjudged(subscription.ref, error))

    def _alone(self, app: tuple[str, str], subscription: EventSubscription, today: date) -> None:
        """Plan an app as if it had one subscription only. Runs in a fork, whose inventory is isolated."""
        for other in self.cache.inventory.of_app(app):
            if other.key != subscription.key:
                self.cache.inventory.remove("EventSubscription", other.key)
        self._decide(app, today)

    async def _patch_unjudged(self, place: ObjectReference, finding: Finding) -> None:
        """Patch the status of an object that could not be evaluated."""
        tracked = self.cache.objects.get(place)
        if tracked:
            status = statuses.unreadable(tracked.generation, [finding], tracked.decoded_status(), self._now())
            await self.patch_status(place, status)

    async def _carry_out(
        self, app: tuple[str, str], steps: Sequence[Step], subscriptions: list[EventSubscription]
    ) -> dict[Name, ApiError]:
        """Execute all steps concurrently; return the failures by child."""
        ended = await asyncio.gather(*(self._take(app, step, subscriptions) for step in steps), return_exceptions=True)
        failures: dict[Name, ApiError] = {}
        for step, error in zip(steps, ended, strict=True):
            if isinstance(error, ApiError):
                if not error.is_terminating:
                    failures[step.name] = error
            elif error:
                raise error
        return failures

    async def _patch_statuses(self, subscriptions: Iterable[EventSubscription], outcome: Outcome) -> None:
        """Patch the status of subscriptions, except those changed or deleted meanwhile, whose app is queued again."""
        inventory, now = self.cache.inventory, self._now()
        updates: list[tuple[ObjectReference, dict[str, Any]]] = []
        for subscription in subscriptions:
            if inventory.subscriptions.get(subscription.key) is subscription:
                before = self._tracked(subscription).decoded_status()
                updates.append(
                    (
                        ("EventSubscription", *subscription.key),
                        statuses.subscription(subscription, outcome, inventory, before, now),
                    )
                )
        writes = [self.patch_status(place, status) for place, status in updates]
        for error in filter(None, await asyncio.gather(*writes, return_exceptions=True)):
            raise error

    async def _take(self, app: tuple[str, str], step: Step, subscriptions: list[EventSubscription]) -> None:
        """Execute one step, and record the server's version of the child."""
        self.must_lead()
        state = self.cache.apps[app]
        if step.desired is None:
            if step.live:
                await self._client.delete(CHILDREN[step.live.name.kind], app[0], step.live.name.name, step.live.uid)
                state.settled.pop(step.live.name, None)
                metrics.WRITES.labels(step.live.name.kind, "delete").inc()
            return
        answer = await self._apply(step)
        now = children.live(answer)
        if now.content != step.desired.hash:
            # Applying keeps fields that others have added, but the sidecar must read only ours.
            # Labels, annotations and finalizers that others have added stay.
            metadata = {**answer["metadata"], "ownerReferences": step.desired.manifest["metadata"]["ownerReferences"]}
            for block in ("labels", "annotations"):
                metadata[block] = {**(metadata.get(block) or {}), **step.desired.manifest["metadata"][block]}
            metadata.pop("managedFields", None)
            answer = await self._client.replace({**step.desired.manifest, "metadata": metadata})
            now = children.live(answer)
        self.cache.child(now)
        state.settled[step.name] = (step.desired.hash, now.content)
        metrics.WRITES.labels(step.name.kind, step.action).inc()
        if step.action == "repair":
            await self._record_drift(step, subscriptions)

    async def _apply(self, step: Step) -> Any:
        """Apply a child, unless an object of this name exists that the operator does not manage."""
        assert step.desired is not None  # noqa: S101 - for the type checker: the caller has looked
        kind, name = step.name
        if step.live is None:
            existing = await self._client.get(CHILDREN[kind], step.desired.manifest["metadata"]["namespace"], name)
            if existing and not children.live({**existing, "kind": kind}).is_managed:
                message = (
                    f"{kind} {name} exists and is not managed by Tidings: its content would be lost. "
                    f"Delete it, or label it {children.SELECTOR} to hand it over."
                )
                raise ApiError(HTTPStatus.UNPROCESSABLE_ENTITY, message, "ForeignObject")
        return await self._client.apply(step.desired.manifest)

    async def _record_drift(self, step: Step, subscriptions: list[EventSubscription]) -> None:
        kind, name = step.name
        metrics.DRIFT.labels(kind).inc()
        what = "was changed" if step.live else "was deleted"
        note = f"{kind} {name} {what} by another client and has been restored: change the EventSubscription instead"
        LOG.warning("%s", note)
        names = step.desired.subscriptions if step.desired else frozenset()
        for subscription in subscriptions:
            if subscription.metadata.name in names:
                await self.record_event(("EventSubscription", *subscription.key), "DriftRepaired", note)

    async def _type(self, key: Key) -> None:
        """Update the status of an event type."""
        this = self.cache.inventory.types.get((key.namespace, key.name))
        for namespace in {key.namespace, *(self._readers(this) if this else ())}:
            self._redraw(namespace)
        if this is None:
            await self.unreadable(key)
            return
        place: ObjectReference = ("EventType", key.namespace, key.name)
        now, today = self._now(), self._today()
        try:
            misfits, status = await self.judged(key, lambda: self._decide_type(place, now, today))
        except JudgementError as error:
            self.cache.weighed(place[1:], {})
            await self._patch_unjudged(place, unjudged(this.ref, error))
            return
        self.cache.weighed(place[1:], misfits)
        if self.cache.inventory.types.get(place[1:]) is this:
            await self.patch_status(place, status)

    def _decide_type(self, place: ObjectReference, now: str, today: date) -> tuple[dict[str, str], dict[str, Any]]:
        """Check a type against its accepted states, and return its status. Runs in a fork."""
        inventory = self.cache.inventory
        this, before = inventory.types[place[1:]], self.cache.objects[place].decoded_status()
        findings = plan_type(this, inventory, today)
        return self.cache.weigh(place[1:]), statuses.event_type(this, findings, inventory, before, now, today)

    async def unreadable(self, key: Key) -> None:
        """Patch the status of an object whose spec could not be read."""
        place: ObjectReference = (key.what, key.namespace, key.name)
        tracked = self.cache.objects.get(place)
        if tracked and tracked.findings:
            status = statuses.unreadable(tracked.generation, tracked.findings, tracked.decoded_status(), self._now())
            await self.patch_status(place, status)

    async def patch_status(self, place: ObjectReference, status: Mapping[str, Any]) -> None:
        """Write a status if it differs from the recorded one."""
        tracked = self.cache.objects.get(place)
        if tracked is None or encode_status(status) == tracked.status:
            return
        self.must_lead()
        warned = _newly_wrong(tracked.decoded_status(), status)
        kind, namespace, name = place
        try:
            known = Known(namespace, name, tracked.uid, tracked.generation, tracked.version)
            answer = await self._client.write_status(OWN[kind], known, status)
        except ApiError as error:
            if error.status == HTTPStatus.NOT_FOUND:
                return  # deleted meanwhile: the watch will say so
            raise
        if answer is None:
            return  # changed meanwhile: the watch will say so
        self.cache.handle_write(place, answer)
        metrics.WRITES.labels(kind, "status").inc()
        if warned:
            await self.record_event(place, warned["reason"], warned["message"])

    async def record_event(self, place: ObjectReference, reason: str, note: str, *, warning: bool = True) -> None:
        """Post a Kubernetes event about an object. Failures are only logged: the status has the same content."""
        tracked = self.cache.objects.get(place)
        if tracked is None:
            return
        kind: events.Type = "Warning" if warning else "Normal"
        built = events.event(
            place, tracked.uid, reason=reason, note=note, kind=kind, by=self._identity, now=self._clock()
        )
        try:
            await events.post(self._client, built)
        except ApiError as error:
            LOG.log(
                logging.DEBUG if error.is_terminating else logging.WARNING, "event about %s %s/%s: %s", *place, error
            )

    def must_lead(self) -> None:
        """Raise NotLeaderError unless this operator is the leader. Call it before every effect."""
        if not self._may_write():
            raise NotLeaderError("another operator writes now")

    def _tracked(self, subscription: EventSubscription) -> Tracked:
        return self.cache.objects["EventSubscription", *subscription.key]

    def _today(self) -> date:
        return self._clock().astimezone(UTC).date()

    def _now(self) -> str:
        return self._clock().astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def unjudged(ref: str, error: JudgementError) -> Finding:
    """Return the finding for an object that could not be evaluated."""
    message = f"This could not be judged: {error}"
    return Finding(
        "error", "not-judged", message, "Make it smaller or simpler; nothing of it is programmed.", resource=ref
    )


def _failure(error: ApiError) -> Failure:
    if error.reason == "ForeignObject":
        return Failure("ForeignObject", str(error), is_final=True)
    if error.is_final:
        return Failure("Refused", f"The API server refuses it: {error}", is_final=True)
    return Failure("ApiServerFails", f"It is tried again: {error}", is_final=False)


def _newly_wrong(before: Mapping[str, Any], status: Mapping[str, Any]) -> Mapping[str, Any] | None:
    """Return problems that are new or have a new reason: not Ready, or a version that ends or was changed."""
    for kind, field, wrong in (
        ("Ready", "status", ("False",)),
        ("VersionAccepted", "reason", ("DeprecatedVersion", "PastRemoval", "IncompatibleSchema")),
    ):
        was, now = _condition(before, kind), _condition(status, kind)
        if now.get(field) in wrong:
            return None if was.get(field) in wrong and was["reason"] == now["reason"] else now
    return None


def _condition(status: Mapping[str, Any], kind: str) -> Mapping[str, Any]:
    return next((condition for condition in status.get("conditions") or () if condition["type"] == kind), {})
