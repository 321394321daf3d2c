"""Messages that are handled together: those that wait are handled in one unit of work."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field, replace
from functools import wraps
from itertools import islice

import msgspec

from tidings.consume.handlers import Handler
from tidings.consume.limits import Keyed
from tidings.consume.policy import RetryPolicy
from tidings.consume.runner import Runner
from tidings.messages.delivery import Cause
from tidings.outcomes import Done, Outcome, Postponed

_Waiting = dict[asyncio.Future[Outcome], Cause]


@dataclass(slots=True)
class Together:
    """The messages that wait in this process for one handler, one unit of work at a time.

    They are those of one subscription, or of one scheduled type. The one that comes first handles all that came until
    its turn, the others find their outcome when theirs comes. Nothing waits longer for the sake of a larger unit.
    """

    runner: Runner
    handler: Handler
    _lines: dict[str, _Waiting] = field(default_factory=dict, init=False)
    _turns: Keyed = field(default_factory=Keyed, init=False)

    async def attempt(self, cause: Cause, retry: RetryPolicy, timeout: float | None = None) -> Outcome:
        """Try a message once, with those that wait beside it; `timeout` is in seconds, and for all of them."""
        mine: asyncio.Future[Outcome] = asyncio.get_running_loop().create_future()
        key = cause.envelope.subject if self.handler.per_subject else ""
        line = self._lines.setdefault(key, {})
        line[mine] = cause
        try:
            async with self._turns(key):
                while not mine.done():
                    await self._handle(line, retry, timeout)
            return mine.result()
        finally:
            mine.cancel()  # where this one is cancelled, nobody asks for its outcome
            line.pop(mine, None)
            if not line and self._lines.get(key) is line:
                del self._lines[key]

    async def _handle(self, line: _Waiting, retry: RetryPolicy, timeout: float | None) -> None:
        taken = dict(islice(line.items(), self.handler.together))  # they stay in line until they have an outcome
        causes = list(taken.values())
        outcome = await self._try(causes, retry, timeout)
        if len(taken) == 1 or isinstance(outcome, Done):
            outcomes = [outcome] * len(taken)
        else:  # one of them may have spoilt it for all, or have been handled before
            outcomes = await self._one_by_one(causes, retry, timeout)
        for future, each in zip(taken, outcomes, strict=True):
            line.pop(future, None)
            if not future.done():  # its delivery may have been cancelled meanwhile
                future.set_result(each)

    async def _one_by_one(self, causes: list[Cause], retry: RetryPolicy, timeout: float | None) -> list[Outcome]:
        """Try each for itself, until a second one must wait for sidecar or store: then it is no message's fault."""
        outcomes: list[Outcome] = []
        for cause in causes:
            away = sum(isinstance(each, Postponed) for each in outcomes) > 1
            outcomes.append(outcomes[-1] if away else await self._try([cause], retry, timeout))
        return outcomes

    async def _try(self, causes: list[Cause], retry: RetryPolicy, timeout: float | None) -> Outcome:
        @wraps(self.handler.function)
        async def all_of_them(_first: object, context: object) -> object:
            return await self.handler.function([self.handler.read(cause) for cause in causes], context)

        first, *others = causes
        attempt = 0 if others else first.attempt  # a list that fails is nobody's attempt yet
        cause = msgspec.structs.replace(first, attempt=attempt, beside=tuple(each.envelope for each in others))
        return await self.runner.attempt(replace(self.handler, function=all_of_them), cause, retry, timeout)
