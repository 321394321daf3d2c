"""Scheduled messages that change one and the same document: those that wait are handled in one unit of work."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field, replace

from tidings.context import Cause
from tidings.handlers import Handler
from tidings.outcomes import Done, Outcome, Postponed
from tidings.policy import RetryPolicy
from tidings.runner import Runner


@dataclass(slots=True)
class Together:
    """The messages of one type that wait in this process, handled one unit of work at a time.

    The one that comes first handles all that came until its turn, the others find their outcome when theirs comes.
    Nothing waits longer for the sake of a larger unit.
    """

    runner: Runner
    handler: Handler
    _waiting: list[tuple[Cause, asyncio.Future[Outcome]]] = field(default_factory=list, init=False)
    _turn: asyncio.Lock = field(default_factory=asyncio.Lock, init=False)

    async def attempt(self, cause: Cause, retry: RetryPolicy) -> Outcome:
        """Try a message once, with those that wait beside it."""
        mine: asyncio.Future[Outcome] = asyncio.get_running_loop().create_future()
        self._waiting.append((cause, mine))
        async with self._turn:
            while not mine.done():
                await self._handle(retry)
        return mine.result()

    async def _handle(self, retry: RetryPolicy) -> None:
        taken = self._waiting[: self.handler.together]  # they stay in line until they have an outcome
        causes = [cause for cause, _ in taken]
        outcome = await self._try(causes, retry)
        if len(taken) == 1 or isinstance(outcome, Done | Postponed):
            outcomes = [outcome] * len(taken)
        else:  # one of them may have spoilt it for all, or have been handled before
            outcomes = [await self._try([cause], retry) for cause in causes]
        del self._waiting[: len(taken)]
        for (_, future), each in zip(taken, outcomes, strict=True):
            future.set_result(each)

    async def _try(self, causes: list[Cause], retry: RetryPolicy) -> Outcome:
        async def all_of_them(_first: object, context: object) -> object:
            return await self.handler.function([self.handler.read(cause) for cause in causes], context)

        first, *others = causes
        cause = replace(first, beside=tuple(each.envelope for each in others))
        return await self.runner.attempt(replace(self.handler, function=all_of_them), cause, retry)
