"""Domain rules of the kitchen. Pure: no I/O and no clock; `now` is a parameter."""

from kitchen.domain.board_index import BoardIndex, shard_key, shard_keys
from kitchen.domain.cookbook import Cookbook
from kitchen.domain.pantry import Pantry
from kitchen.domain.roster import Arrival, NotClockedIn, Role, Roster
from kitchen.domain.ticket import Fulfilment, Line, Status, Step, Ticket, WrongStep

__all__ = [
    "Arrival",
    "BoardIndex",
    "Cookbook",
    "Fulfilment",
    "Line",
    "NotClockedIn",
    "Pantry",
    "Role",
    "Roster",
    "Status",
    "Step",
    "Ticket",
    "WrongStep",
    "shard_key",
    "shard_keys",
]
