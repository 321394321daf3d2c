"""The plan core: EventTypes and EventSubscriptions in, what Dapr and the kit need out. Pure: no files, no network.

`plan(inventory)` plans everything; `plan_app(app, inventory, today)` just one app, which is what an operator
does on a change (`Inventory.put` and `Inventory.remove` tell it which apps a change touches).
"""

from tidings.plan.app import plan_app
from tidings.plan.model import AppPlan, Plan, Scopes
from tidings.plan.planning import plan, scopes, topics
from tidings.plan.replays import plan_replay
from tidings.plan.systemmap import system_map
from tidings.plan.types import plan_type

__all__ = [
    "AppPlan",
    "Plan",
    "Scopes",
    "plan",
    "plan_app",
    "plan_replay",
    "plan_type",
    "scopes",
    "system_map",
    "topics",
]
