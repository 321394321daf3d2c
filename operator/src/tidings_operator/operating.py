"""One operator: kopf updates the inventory, watches update the cache of children, workers reconcile."""

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from datetime import UTC, datetime
from typing import Any

import kopf

from tidings_operator import metrics, reading, server, watching, webhooks
from tidings_operator.archive import Archives
from tidings_operator.cache import Cache, ObjectReference, live
from tidings_operator.children import SELECTOR
from tidings_operator.client import CHILDREN, COMPONENTS, OWN, ApiError, Client
from tidings_operator.components import Components, component
from tidings_operator.feeding import Stopped, feed
from tidings_operator.judging import Judge
from tidings_operator.lease import Alone, Lease
from tidings_operator.notifying import Notifier
from tidings_operator.observing import Observer
from tidings_operator.reconciling import Reconciler
from tidings_operator.replaying import Replayer
from tidings_operator.settings import Settings
from tidings_operator.watching import watch
from tidings_operator.workqueue import WorkQueue
from tidings_plan import cel

LOG = logging.getLogger(__name__)
LOOK = 0.1
RELIST = 5.0
"""Seconds without progress after which objects are listed again."""
HEARTBEAT = 20.0
"""Seconds between comparisons of the object counts with the API server's."""


class Operator:
    """All parts, connected. `run` lasts until it is cancelled."""

    def __init__(
        self,
        settings: Settings,
        login: Callable[[], kopf.ConnectionInfo],
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self.settings = settings
        self._login = login
        self.client = Client(login)
        self.queue = WorkQueue()
        self.cache = Cache(self.queue.add)
        self._urgent = Client(login)
        """A separate session for the lease, whose renewal must not wait for other requests."""
        self.lease: Lease | Alone = (
            Lease(
                self._urgent,
                namespace=settings.namespace,
                identity=settings.identity,
                duration=settings.lease_duration,
            )
            if settings.lease
            else Alone()
        )
        self.judge = Judge()
        self.reconciler = Reconciler(
            self.cache,
            self.queue,
            self.client,
            identity=settings.identity,
            may_write=lambda: self.lease.held,
            clock=clock,
            judge=self.judge,
        )
        self.archives = Archives(settings.archive_url, settings.archive_tokens)
        self.reconciler.handlers["EventReplay"] = Replayer(
            self.reconciler, self.client, self.archives, poll=settings.replay_poll
        )
        self.notifier = Notifier(
            self.cache,
            self.archives,
            grace=settings.notify_grace,
            may_write=lambda: self.lease.held,
            clock=clock,
        )
        metrics.QUEUE.set_function(lambda: self.queue.outstanding)
        metrics.WATCH_AGE.set_function(self.watch_age)
        metrics.DECLARED.set_function(lambda: len(self.cache.inventory.subscriptions))
        metrics.READY.set_function(self.cache.ready)
        self.synced = asyncio.Event()
        self.port = 0
        self._signs: dict[str, float] = {}

    async def run(self) -> None:
        """Watch and reconcile until cancelled; an error in any part ends the operator."""
        cel.check("event.type == 'warm'")  # once here instead of once in each fork
        async with AsyncExitStack() as stack:
            await stack.enter_async_context(self.client)
            await stack.enter_async_context(self._urgent)
            await stack.enter_async_context(self.archives)
            runner, self.port = await server.serve(
                server.application(self.dead, self.unready),
                self.settings.host,
                self.settings.port,
            )
            stack.push_async_callback(runner.cleanup)
            if isinstance(self.lease, Lease):
                stack.push_async_callback(self._release, self.lease)
            try:
                async with asyncio.TaskGroup() as tasks:
                    for part in self._parts():
                        tasks.create_task(part)
            except* Stopped:
                LOG.info("asked to stop")

    def _parts(self) -> list[Any]:
        namespaces = self.settings.namespaces or ("",)
        watches = [
            watch(
                self.client, api, namespace, SELECTOR, self.cache, self._alive(f"{api.plural} {namespace}"), slim=live
            )
            for api in CHILDREN.values()
            for namespace in namespaces
        ]
        components = Components(self.cache)
        watches += [
            watch(
                self.client,
                COMPONENTS,
                namespace,
                "",
                components,
                self._alive(f"components {namespace}"),
                slim=component,
            )
            for namespace in namespaces
        ]
        leading = [self.lease.keep()] if isinstance(self.lease, Lease) else []
        propose = self.notifier.propose if self.settings.notify else None
        judging = (
            [webhooks.serve(self.settings, self.cache, self.client, self.unready, propose)]
            if self.settings.webhook_port
            else []
        )
        observer = Observer(self.settings, self.cache, self.client, lambda: self.lease.held)
        observing = [observer.run(self.synced)] if self.settings.observe else []
        notifying = [self.notifier.run(self.synced, self.settings.notify)] if self.settings.notify else []
        kopf_feed = feed(self._login, self._handle_event, self.settings.namespaces)
        optional = [*leading, *judging, *observing, *notifying]
        return [kopf_feed, *watches, *optional, self._start(), self._resync(), self._heartbeat()]

    async def _handle_event(self, event: kopf.RawEvent, **_: Any) -> None:
        self._signs["kopf"] = time.monotonic()
        await self._take(event["type"], event["object"])

    async def _take(self, change: str | None, body: Any) -> None:
        """Read an object and cache it; an unreadable one is cached as such."""
        read = await reading.read(body, self.judge) if self.cache.is_news(change, body) else None
        self.cache.handle_event(change, body, read)

    async def _start(self) -> None:
        """Prevent writes until everything has been listed: a partial view would delete valid children."""
        expected = (len(CHILDREN) + 1) * len(self.settings.namespaces or ("",))
        pending, since = self._late(await self._attempt(self._versions)), time.monotonic()
        while pending or len(self.cache.listings) < expected:
            await asyncio.sleep(LOOK)
            late = self._late(pending)
            if late and len(late) == len(pending) and time.monotonic() > since + RELIST:
                late = self._late(await self._attempt(self._versions))  # some may be gone by now
            since = time.monotonic() if len(late) != len(pending) else since
            pending = late
        self.synced.set()
        metrics.SYNCED.set(1)
        LOG.info("all %d objects seen", len(self.cache.objects))
        async with asyncio.TaskGroup() as workers:
            for _ in range(self.settings.workers):
                workers.create_task(self.reconciler.work())

    def _late(self, versions: dict[ObjectReference, int]) -> dict[ObjectReference, int]:
        """Return the objects in the API server whose present state no event has reported."""
        known = self.cache.objects
        return {
            place: version
            for place, version in versions.items()
            if place not in known or known[place].version < version
        }

    async def _versions(self) -> dict[ObjectReference, int]:
        versions = {}
        for kind, api in OWN.items():
            for namespace in self.settings.namespaces or ("",):
                async for page, _ in self.client.pages(api, namespace, metadata_only=True):
                    for metadata in (item["metadata"] for item in page):
                        versions[kind, metadata["namespace"], metadata["name"]] = int(metadata["resourceVersion"])
        return versions

    async def _resync(self) -> None:
        """Reconcile everything periodically, because of dates that have been reached and lost events."""
        await self.synced.wait()
        while True:
            await asyncio.sleep(self.settings.resync)
            before = self._late(await self._attempt(self._versions))
            await asyncio.sleep(HEARTBEAT if before else 0)
            for place in set(before) & set(self._late(await self._attempt(self._versions)) if before else ()):
                await self._catch_up(place)
            for key in self.cache.everything():
                while len(self.queue) > self.settings.workers:  # noqa: ASYNC110 - let changes go first
                    await asyncio.sleep(LOOK)
                self.queue.add(key)

    async def _catch_up(self, place: ObjectReference) -> None:
        """Read objects whose events the watch has missed."""
        kind, namespace, name = place
        body = await self._attempt(lambda: self.client.get(OWN[kind], namespace, name))
        if body:
            metrics.ERRORS.labels(kind, "lost-event").inc()
            LOG.error("the watch did not tell of %s %s/%s", kind, namespace, name)
            await self._take("MODIFIED", body)

    async def _heartbeat(self) -> None:
        """Compare the number of objects with the number of cached ones: equality is a sign of life like an event."""
        await self.synced.wait()
        while True:
            if await self._attempt(self._count) == len(self.cache.objects):
                self._signs["kopf"] = time.monotonic()
            await asyncio.sleep(HEARTBEAT)

    async def _count(self) -> int:
        namespaces = self.settings.namespaces or ("",)
        return sum([await self.client.count(api, namespace) for api in OWN.values() for namespace in namespaces])

    async def _attempt(self, request: Callable[[], Awaitable[Any]]) -> Any:
        """Repeat a request until it succeeds."""
        while True:
            try:
                return await request()
            except ApiError as error:
                LOG.warning("%s", error)
                await asyncio.sleep(1.0)

    def _alive(self, what: str) -> Callable[[float], None]:
        def sign(moment: float) -> None:
            self._signs[what] = moment

        return sign

    def watch_age(self) -> float:
        """Return the seconds since the last sign of life of the most silent watch."""
        return time.monotonic() - min(self._signs.values(), default=time.monotonic())

    def dead(self) -> str:
        """Return the reason why the operator must be restarted, or an empty text."""
        age = self.watch_age()
        limit = self.settings.stale + watching.SECONDS
        return f"a watch has been silent for {age:.0f} s" if age > limit else ""

    def unready(self) -> str:
        """Return the reason why the operator is not ready, or an empty text."""
        return "" if self.synced.is_set() else "not everything has been seen yet"

    @staticmethod
    async def _release(lease: Lease) -> None:
        try:
            await lease.release()
        except ApiError as error:
            LOG.warning("the lease could not be released: %s", error)
