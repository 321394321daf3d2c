"""A service: its handlers, how it publishes, and its life beside a sidecar."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable
from datetime import datetime
from functools import partial
from typing import Any, TypeVar

import stamina
import structlog

from tidings.background import contained, ends_task
from tidings.consume import policy as policies
from tidings.consume.deadletters import DeadLetterPublisher
from tidings.consume.handlers import Handler
from tidings.consume.ingress import Ingress
from tidings.consume.policy import Policy
from tidings.consume.runner import Runner
from tidings.consume.scheduling import Scheduler
from tidings.context import request, utc_now
from tidings.dapr import Sidecar
from tidings.dapr.client import DaprSidecar
from tidings.errors import SidecarError, SidecarUnavailable
from tidings.messages.delivery import Cause
from tidings.outbox.log import LogOutbox
from tidings.outbox.port import Outbox
from tidings.settings import Settings

log = structlog.get_logger(__name__)
T = TypeVar("T")


class Service:
    """Everything a service needs to take part.

    Args:
        name: The Dapr app id; the `source` of what it publishes.
        handlers: What it handles, from one or several `Handlers`.
        settings: By default from the environment.
        sidecar: By default the real one; tests give `tidings.testing.MemorySidecar`.
        outbox: How it publishes; by default the log strategy.
        policy: By default what `TIDINGS_POLICY` names.
        clock: The moment, in UTC.
        opening: `async def opening(context)`, a unit of work that is run at each start as soon as the sidecar answers,
            and again until it is committed; what it has done before, it must find in the document it loads.

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
        opening: Callable[[Any], Awaitable[object]] | None = None,
    ) -> None:
        self.name = name
        self.settings = settings or Settings()
        self.sidecar = sidecar or DaprSidecar.from_settings(self.settings)
        self.outbox = self._outbox(outbox)
        found = list(handlers)
        read = policy or policies.read(self.settings.tidings_policy)
        self._runner = Runner(self.outbox, clock)
        dead_letters = DeadLetterPublisher(
            self.sidecar,
            read.dead_letter_topic or f"deadletter.{name}",
            partial(self._runner.store, source=name),
            self.settings.tidings_max_event,
        )
        token = self.settings.app_api_token
        self.ingress = Ingress(
            name, found, read, self._runner, dead_letters, token.get_secret_value() if token else None
        )
        self._scheduler = Scheduler(name, found, self._runner, dead_letters, self.ingress.retry)
        self._opening = opening
        self._starting: asyncio.Task[None] | None = None
        self._opened: asyncio.Task[None] | None = None
        self._stopping = False

    def _outbox(self, given: Outbox | Callable[[Sidecar, Settings], Outbox] | None) -> Outbox:
        if given is None:
            return LogOutbox(self.sidecar, self.settings.tidings_instance, self.settings.tidings_max_event)
        return given(self.sidecar, self.settings) if callable(given) else given

    async def start(self) -> None:
        """Begin; the sidecar may come later: until it does, units of work fail with `SidecarUnavailable`."""
        self._starting = asyncio.create_task(contained(self._start))
        if self._opening is not None:
            self._opened = asyncio.create_task(contained(partial(self._open, self._starting, self._opening)))

    async def _start(self) -> None:
        try:
            await self.outbox.start(self._scheduler.deliver)
            self.ingress.delayed.enabled = True
        except BaseException as error:
            if ends_task(error):
                raise
            log.error("service.not_started", reason=f"{type(error).__qualname__}: {error}", exc_info=error)
            raise

    async def _open(self, starting: asyncio.Task[None], opening: Callable[[Any], Awaitable[object]]) -> None:
        await asyncio.wait([starting])
        starting.result()
        cause = Cause(self.name, request())
        try:
            async for attempt in stamina.retry_context(on=SidecarError, attempts=None, timeout=None):
                with attempt:
                    await self._runner.execute(lambda _message, context: opening(context), None, cause)
        except BaseException as error:
            if ends_task(error):
                raise
            log.error("service.not_opened", reason=f"{type(error).__qualname__}: {error}", exc_info=error)
            raise

    async def stop(self) -> None:
        """Finish what is in flight, for up to `TIDINGS_DRAIN` seconds; what is not finished is returned."""
        self._stopping = True
        self.ingress.delayed.enabled = False
        patience = self.settings.tidings_drain
        if not await self.ingress.drained(patience):
            log.warning("service.not_drained", in_flight=self.ingress.in_flight)
        begun = [task for task in (self._starting, self._opened) if task is not None]
        for task in begun:
            task.cancel()
        await asyncio.gather(*begun, return_exceptions=True)
        await self.outbox.stop(patience)
        await self.sidecar.close()

    @property
    def healthy(self) -> bool:
        """Whether the sidecar may deliver: false while stopping, so that it brings nothing more."""
        return not self._stopping

    async def ready(self) -> bool:
        """Whether commands can be accepted: the sidecar answers, the outbox has started and the opening is done."""
        opened = self._opening is None or _succeeded(self._opened)
        return _succeeded(self._starting) and opened and self.healthy and await self.sidecar.ready()

    async def execute(
        self,
        function: Callable[[Any, Any], Awaitable[T]],
        message: object,
        *,
        correlation_id: str = "",
        traceparent: str = "",
        baggage: str = "",
    ) -> T:
        """Run `async def function(message, context)` as a unit of work: what an API does with a request.

        It runs again where somebody else wrote the same document first.

        Raises:
            SidecarUnavailable: Sidecar or store did not answer; it may have been carried out all the same.
            StateConflict: Others kept writing the same document first.

        """
        await self._started()
        cause = Cause(self.name, request(correlation_id, traceparent, baggage))
        return await self._runner.execute(function, message, cause)

    async def _started(self) -> None:
        if self._starting is None:
            raise SidecarUnavailable(f"{self.name} has not been started")
        if not self._starting.done():
            await asyncio.wait([self._starting], timeout=self.settings.tidings_deadline)
            if not self._starting.done():
                raise SidecarUnavailable(f"{self.name}: sidecar or state store do not answer")
        self._starting.result()


def _succeeded(task: asyncio.Task[None] | None) -> bool:
    return task is not None and task.done() and not task.cancelled() and task.exception() is None
