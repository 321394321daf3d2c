"""Publishes events, and batches those that arrive while a call for the same topic is in flight."""

import asyncio
from collections import deque
from dataclasses import dataclass, field

from tidings.background import ends_task
from tidings.dapr import Sidecar
from tidings.errors import SidecarError

_PAUSE = 0.002  # seconds after a call in which those are gathered that share the next: few a second never meet it
_AT_ONCE = 100  # events in one call
_LENGTH_AT_ONCE = 1_000_000  # bytes of events in one call: gRPC's messages are limited to 4 MiB


_Waiting = tuple[bytes, asyncio.Future[SidecarError | None]]


@dataclass(slots=True)
class _Topic:
    busy: bool = False
    waiting: deque[_Waiting] = field(default_factory=deque)

    def next_call(self) -> list[_Waiting]:
        taken: list[_Waiting] = []
        length = 0
        while self.waiting and len(taken) < _AT_ONCE and length < _LENGTH_AT_ONCE:
            event, answer = self.waiting.popleft()
            if not answer.done():  # who has been cancelled waits no more
                taken.append((event, answer))
                length += len(event)
        return taken


class BatchingPublisher:
    """Publishes events in no particular order. Callers that need order wait for one event before publishing the next.

    Args:
        sidecar: Publishes the events.

    """

    def __init__(self, sidecar: Sidecar) -> None:
        self._sidecar = sidecar
        self._topics: dict[str, _Topic] = {}
        self._tasks: set[asyncio.Task[None]] = set()

    async def publish(self, topic: str, event: bytes) -> None:
        """Publish an event and return once the broker has acknowledged it.

        Raises:
            SidecarUnavailable: The sidecar or broker is unavailable or did not answer in time; the event may have been
                published.
            PublishRefused: The topic is forbidden or missing, or the event is too large.

        """
        state = self._topics.setdefault(topic, _Topic())
        if not state.busy:
            state.busy = True
            try:
                return await self._sidecar.publish(topic, event)
            finally:
                self._ended(topic, state)
        answer: asyncio.Future[SidecarError | None] = asyncio.get_running_loop().create_future()
        state.waiting.append((event, answer))
        if (error := await answer) is not None:
            raise error
        return None

    def stop(self) -> None:
        """Cancel the calls in flight."""
        for task in self._tasks:
            task.cancel()

    def _ended(self, topic: str, state: _Topic) -> None:
        asyncio.get_running_loop().call_later(_PAUSE, self._go_on, topic, state)

    def _go_on(self, topic: str, state: _Topic) -> None:
        call = state.next_call()
        state.busy = bool(call)
        if call:
            task = asyncio.ensure_future(self._send(topic, state, call))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _send(self, topic: str, state: _Topic, call: list[_Waiting]) -> None:
        answers = [answer for _, answer in call]
        try:
            errors = await self._sidecar.publish_many(topic, [event for event, _ in call])
        except BaseException as failure:
            for answer in answers:
                _answer(answer, failure)
            if ends_task(failure):
                raise
        else:
            for answer, error in zip(answers, errors, strict=True):
                _answer(answer, error)
        finally:
            self._ended(topic, state)


def _answer(waiting: asyncio.Future[SidecarError | None], error: BaseException | None) -> None:
    """Pass the result to the waiting caller, unless it has been cancelled."""
    if waiting.done():
        return
    if error is None or isinstance(error, SidecarError):
        waiting.set_result(error)
    elif isinstance(error, asyncio.CancelledError):
        waiting.cancel()
    else:
        waiting.set_exception(error)
