"""What the kitchen tells itself: scheduled messages, never published."""

from __future__ import annotations

from kitchen.domain import Step
from tidings import Event, command


@command("kitchen.takeStep", subject="order_id")
class TakeStep(Event):
    """Do a ticket's next step, if nobody has done any since: `moves` is how many there were."""

    order_id: str
    step: Step
    moves: int


@command("kitchen.fileTicket", subject="order_id")
class FileTicket(Event):
    """Hang a ticket on its rail while it is in work, take it down when it is not."""

    order_id: str
