"""Steps of a ticket, done by the simulated crew or reported through the API."""

from __future__ import annotations

from datetime import datetime

from kitchen import events
from kitchen.commands import IndexTicket, TakeStep
from kitchen.domain import Step, Ticket
from kitchen.settings import settings
from tidings import Event, StateContext


def advance(ticket: Ticket, step: Step, context: StateContext, *, passed: bool = True) -> None:
    """Carry out a step, publish its event, and schedule the next step.

    Raises:
        WrongStep: Another step is due, or none.

    """
    ticket.do(step, context.now, passed=passed)
    context.save(ticket.order_id, ticket)
    context.publish(_event_of(ticket, step, context.now, passed=passed))
    if ticket.in_work:
        plan(ticket, context)
    else:
        context.schedule(IndexTicket(order_id=ticket.order_id))


def plan(ticket: Ticket, context: StateContext) -> None:
    """Schedule the next step if the crew is simulated."""
    step = ticket.next_step
    if step is not None and settings().autopilot:
        message = TakeStep(order_id=ticket.order_id, step=step, moves=ticket.moves)
        context.schedule(message, after=settings().step)


def _event_of(ticket: Ticket, step: Step, now: datetime, *, passed: bool) -> Event:
    match step:
        case "started":
            return events.PreparationStarted(order_id=ticket.order_id, started_at=now)
        case "prepared":
            return events.PizzaPrepared(order_id=ticket.order_id, prepared_at=now)
        case "baked":
            return events.PizzaBaked(order_id=ticket.order_id, baked_at=now)
        case "checked":
            return events.QualityChecked(order_id=ticket.order_id, passed=passed, attempt=ticket.checks, checked_at=now)
        case "boxed":
            return events.PizzaBoxed(
                order_id=ticket.order_id, fulfilment=ticket.fulfilment, boxes=ticket.pizzas, boxed_at=now
            )
