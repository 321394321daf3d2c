"""What the kitchen decides: pure, without I/O and without a clock; `now` is always given."""

from kitchen.domain.cookbook import Cookbook
from kitchen.domain.pantry import Pantry
from kitchen.domain.rail import Rail, rail_of, rails
from kitchen.domain.roster import Arrival, NotClockedIn, Role, Roster
from kitchen.domain.ticket import Fulfilment, Line, Status, Step, Ticket, WrongStep

__all__ = [
    "Arrival",
    "Cookbook",
    "Fulfilment",
    "Line",
    "NotClockedIn",
    "Pantry",
    "Rail",
    "Role",
    "Roster",
    "Status",
    "Step",
    "Ticket",
    "WrongStep",
    "rail_of",
    "rails",
]
