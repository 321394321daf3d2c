"""Planning: derive the configuration of Dapr and the SDK from EventTypes and EventSubscriptions. Pure, without I/O.

`plan(inventory)` plans all apps; `plan_app(app, inventory, today)` plans one app, as an operator does after a change
(`Inventory.put` and `Inventory.remove` return the affected apps).
"""

from tidings_plan.app import plan_app
from tidings_plan.model import AppPlan, Plan, Scopes
from tidings_plan.planning import plan, scopes, topics
from tidings_plan.replays import plan_replay
from tidings_plan.systemmap import assemble_map, map_subscriptions, system_map
from tidings_plan.types import plan_type

__all__ = [
    "AppPlan",
    "Plan",
    "Scopes",
    "assemble_map",
    "map_subscriptions",
    "plan",
    "plan_app",
    "plan_replay",
    "plan_type",
    "scopes",
    "system_map",
    "topics",
]
