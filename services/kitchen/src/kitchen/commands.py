"""Scheduled messages of the kitchen; they never leave it."""

from kitchen.domain import Step
from tidings import Event, command


@command("kitchen.takeStep", subject="order_id")
class TakeStep(Event):
    """Do a ticket's next step, provided that it still has this number of `moves`."""

    order_id: str
    step: Step
    moves: int


@command("kitchen.indexTicket", subject="order_id")
class IndexTicket(Event):
    """Add a ticket to the board index if it is in work, remove it otherwise."""

    order_id: str
