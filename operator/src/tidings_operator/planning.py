"""Plan apps in forks of this process, so that an object that harms the planner affects no other."""

import asyncio
from collections.abc import Callable, Iterable, Mapping
from datetime import date
from functools import partial
from typing import Any, TypeVar

from tidings_operator.judging import ALONE, Judge, JudgementError
from tidings_plan import AppPlan, plan_app
from tidings_plan.resources import EventSubscription, Inventory, Key

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


async def harmful(app: Key, inventory: Inventory, judge: Judge, today: date) -> list[EventSubscription]:
    """Return the subscriptions without which an app can be planned: those that fail alone, or all if none does."""
    subscriptions, failed = inventory.of_app(app), []
    for subscription in subscriptions:  # sequentially, because concurrent evaluations share a fork
        try:
            await judge(partial(_plan_alone, app, subscription, inventory, today), ALONE)
        except JudgementError:
            failed.append(subscription)
    return failed or subscriptions


def keep_only(inventory: Inventory, app: Key, subscription: EventSubscription) -> None:
    """Remove an app's other subscriptions: in a fork that evaluates nothing else."""
    for other in inventory.of_app(app):
        if other is not subscription and other.key != subscription.key:
            inventory.remove("EventSubscription", other.key)


def _plan_alone(app: Key, subscription: EventSubscription, inventory: Inventory, today: date) -> None:
    keep_only(inventory, app, subscription)
    plan_app(app, inventory, today)
