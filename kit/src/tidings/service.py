"""A service: its handlers, its outbox and its lifecycle."""

import asyncio
from collections.abc import Awaitable, Callable, Iterable
from datetime import datetime
from functools import partial
from typing import Any, TypeVar

import stamina
import structlog

from tidings import subject_keys
from tidings.background import contained, ends_task
from tidings.consume import policy as policies
from tidings.consume.deadletters import DeadLetterPublisher
from tidings.consume.handlers import Handler
from tidings.consume.ingress import Ingress
from tidings.consume.policy import Policy
from tidings.consume.runner import Runner
from tidings.consume.scheduling import Scheduler
from tidings.context import request, utc_now
from tidings.conventions import dead_letter_topic
from tidings.dapr import Sidecar
from tidings.dapr.client import DaprSidecar
from tidings.errors import SidecarError, SidecarUnavailable
from tidings.messages import personal
from tidings.messages.delivery import DeliveryContext
from tidings.outbox.log import LogOutbox
from tidings.outbox.port import Outbox
from tidings.settings import Settings

log = structlog.get_logger(__name__)
T = TypeVar("T")


class Service:
    """A service that publishes and consumes events through a Dapr sidecar.

    Args:
        name: Dapr app id, and the `source` of published events.
        handlers: Event handlers, from one or several `Handlers`.
        settings: Defaults to the environment.
        sidecar: Defaults to the Dapr sidecar; tests pass `tidings.testing.MemorySidecar`.
        outbox: Outbox strategy; defaults to the log strategy.
        policy: Consumer policy; defaults to the file named by `TIDINGS_POLICY`.
        clock: Returns the current time in UTC.
        startup_hook: `async def startup_hook(context)`, a unit of work that runs at every start once the sidecar is
            available, and is retried until it is committed. It must detect from the state it loads what earlier starts
            have done.

    Raises:
        DefinitionError: The policy cannot be read.

    """

    def __init__(
        self,
        name: str,
        handlers: Iterable[Handler] = (),
        *,
        settings: Settings | None = None,
        sidecar: Sidecar | None = None,
        outbox: Outbox | Callable[[Sidecar, Settings], Outbox] | None = None,
        policy: Policy | None = None,
        clock: Callable[[], datetime] = utc_now,
        startup_hook: Callable[[Any], Awaitable[object]] | None = None,
    ) -> None:
        self.name = name
        self.settings = settings or Settings()
        self.sidecar = sidecar or DaprSidecar.from_settings(self.settings)
        self._keys = subject_keys.from_settings(self.settings)
        if self._keys is not None:
            personal.use(self._keys)
        self.outbox = self._outbox(outbox)
        registered = list(handlers)
        file = self.settings.tidings_policy
        read_policy = partial(policies.read, file) if policy is None and file else None
        policy = policy or policies.read(file)
        self._runner = Runner(self.outbox, clock)
        dead_letters = DeadLetterPublisher(
            self.sidecar,
            policy.dead_letter_topic or dead_letter_topic(name),
            partial(self._runner.store, source=name),
            self.settings.tidings_max_event,
        )
        token = self.settings.app_api_token
        self.ingress = Ingress(
            name,
            registered,
            policy,
            self._runner,
            dead_letters,
            token.get_secret_value() if token else None,
            read_policy,
        )
        self._scheduler = Scheduler(name, registered, self._runner, dead_letters, self.ingress.retry)
        self._startup_hook = startup_hook
        self._starting: asyncio.Task[None] | None = None
        self._is_started = asyncio.Event()
        self._hook_task: asyncio.Task[None] | None = None
        self._stopping = False

    def _outbox(self, outbox: Outbox | Callable[[Sidecar, Settings], Outbox] | None) -> Outbox:
        if outbox is None:
            return LogOutbox(self.sidecar, self.settings.tidings_instance, self.settings.tidings_max_event)
        return outbox(self.sidecar, self.settings) if callable(outbox) else outbox

    async def start(self) -> None:
        """Start in the background. Units of work fail with `SidecarUnavailable` until the sidecar is available."""
        self._starting = asyncio.create_task(contained(self._start))
        if self._startup_hook is not None:
            self._hook_task = asyncio.create_task(
                contained(partial(self._run_hook, self._starting, self._startup_hook))
            )

    async def started(self) -> None:
        """Wait until the outbox has started, and its database has its tables; forever if the start fails."""
        await self._is_started.wait()

    async def _start(self) -> None:
        try:
            if self._keys is not None:
                async for attempt in stamina.retry_context(on=SidecarUnavailable, attempts=None, timeout=None):
                    with attempt:
                        await self._keys.unlock(self.sidecar)
            await self.outbox.start(self._scheduler.deliver)
            self.ingress.delayed.enabled = True
            self._is_started.set()
        except BaseException as error:
            if ends_task(error):
                raise
            log.error("service.start_failed", reason=f"{type(error).__qualname__}: {error}", exc_info=error)
            raise

    async def _run_hook(self, starting: asyncio.Task[None], hook: Callable[[Any], Awaitable[object]]) -> None:
        await asyncio.wait([starting])
        starting.result()
        delivery = DeliveryContext(self.name, request())
        try:
            async for attempt in stamina.retry_context(on=SidecarError, attempts=None, timeout=None):
                with attempt:
                    await self._runner.execute(lambda _message, context: hook(context), None, delivery)
        except BaseException as error:
            if ends_task(error):
                raise
            log.error("service.startup_hook_failed", reason=f"{type(error).__qualname__}: {error}", exc_info=error)
            raise

    async def stop(self) -> None:
        """Finish deliveries in flight within `TIDINGS_DRAIN` seconds; the broker redelivers unfinished ones."""
        self._stopping = True
        self.ingress.delayed.enabled = False
        grace_period = self.settings.tidings_drain
        if not await self.ingress.drained(grace_period):
            log.warning("service.drain_timed_out", in_flight=self.ingress.in_flight)
        tasks = [task for task in (self._starting, self._hook_task) if task is not None]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await self.outbox.stop(grace_period)
        await self.sidecar.close()
        if self._keys is not None:
            self._keys.close()

    @property
    def healthy(self) -> bool:
        """False while stopping, so that the sidecar delivers no more events."""
        return not self._stopping

    async def ready(self) -> bool:
        """Return True if the sidecar is available, the outbox has started and the startup hook has completed."""
        hook_done = self._startup_hook is None or _succeeded(self._hook_task)
        is_started = _succeeded(self._starting) and hook_done and self.healthy
        return is_started and await self.sidecar.ready(state=self.outbox.uses_state)

    async def execute(
        self,
        function: Callable[[Any, Any], Awaitable[T]],
        message: object,
        *,
        correlation_id: str = "",
        traceparent: str = "",
        baggage: str = "",
    ) -> T:
        """Run `async def function(message, context)` as a unit of work, for example to handle an API request.

        The function runs again if another unit of work wrote the same document first.

        Raises:
            SidecarUnavailable: The sidecar or store did not answer. The unit of work may have been committed
                nevertheless.
            StateConflict: Concurrent writes to the same document did not stop.

        """
        await self._require_start()
        delivery = DeliveryContext(self.name, request(correlation_id, traceparent, baggage))
        return await self._runner.execute(function, message, delivery)

    async def _require_start(self) -> None:
        """Wait until the start has ended, for at most `TIDINGS_DEADLINE` seconds; raise its error if it failed."""
        if self._starting is None:
            raise SidecarUnavailable(f"{self.name} has not been started")
        if not self._starting.done():
            await asyncio.wait([self._starting], timeout=self.settings.tidings_deadline)
            if not self._starting.done():
                raise SidecarUnavailable(
                    f"{self.name}: sidecar or state store did not answer within {self.settings.tidings_deadline} s"
                )
        self._starting.result()


def _succeeded(task: asyncio.Task[None] | None) -> bool:
    return task is not None and task.done() and not task.cancelled() and task.exception() is None
