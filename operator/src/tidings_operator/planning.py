"""Plan apps in forks of this process, so that an object that harms the planner affects no other."""

import asyncio
from collections.abc import Callable, Iterable, Mapping
from datetime import date
from functools import partial
from typing import Any, TypeVar

from tidings_operator.judging import Judge, JudgementError
from tidings_plan import AppPlan, plan_app
from tidings_plan.resources import Inventory, Key

At = TypeVar("At")


async def gathered(judge: Judge, work: Mapping[At, Callable[[], Any]], seconds: float) -> tuple[dict[At, Any], set[At]]:
    """Return the results, and the keys that could not be evaluated within the given seconds of CPU time."""
    results = await asyncio.gather(*(judge(inputs, seconds) for inputs in work.values()), return_exceptions=True)
    answers: dict[At, Any] = {}
    for key, result in zip(work, results, strict=True):
        if not isinstance(result, BaseException):
            answers[key] = result
        elif not isinstance(result, JudgementError):
            raise result
    return answers, work.keys() - answers.keys()


async def plan_apps(
    apps: Iterable[Key], inventory: Inventory, judge: Judge, today: date, seconds: float
) -> tuple[dict[Key, AppPlan], set[Key]]:
    """Plan each app separately; return the plans, and the apps that could not be planned."""
    return await gathered(judge, {app: partial(plan_app, app, inventory, today) for app in sorted(apps)}, seconds)
