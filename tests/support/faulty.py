"""A planner that some names harm, because every input that is known to harm the real one is refused beforehand."""

from __future__ import annotations

import os
import signal
from datetime import date
from typing import Any

from tidings_plan import plan_app as plan_app_of_the_core
from tidings_plan.resources import Inventory


def plan_app(app: tuple[str, str], inventory: Inventory, today: date) -> Any:
    """Plan an app; subscriptions named `endless-…`, `crash-…`, `bottomless-…`, `greedy-…` and `raising-…` do harm."""
    names = {subscription.metadata.name.partition("-")[0] for subscription in inventory.of_app(app)}
    while "endless" in names:
        pass
    if "crash" in names:
        os.kill(os.getpid(), signal.SIGSEGV)
    if "bottomless" in names:
        return plan_app(app, inventory, today)
    if "greedy" in names:
        return [bytearray(10**7) for _ in range(10**6)]
    if "raising" in names:
        raise KeyError("what is this?")
    return plan_app_of_the_core(app, inventory, today)
