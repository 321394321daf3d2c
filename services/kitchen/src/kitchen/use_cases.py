"""Use cases of the kitchen, one unit of work each, and the steps of a ticket."""

import asyncio
from dataclasses import dataclass
from datetime import datetime

from kitchen import events
from kitchen.commands import IndexTicket, TakeStep
from kitchen.domain import Arrival, BoardIndex, Cookbook, Pantry, Roster, Step, Ticket, shard_keys
from kitchen.settings import settings
from tidings import Event, StateContext

MAIN = "main"
"""State key of singleton documents."""


@dataclass(frozen=True, slots=True)
class StepDone:
    """Report that a step of a ticket was done by hand."""

    order_id: str
    step: Step
    passed: bool = True


@dataclass(frozen=True, slots=True)
class Board:
    """Staff, missing ingredients and tickets in work, oldest first."""

    roster: Roster
    missing: list[str]
    tickets: list[Ticket]


async def open_kitchen(context: StateContext) -> None:
    """Clock the opening crew in on the very first start."""
    if settings().opening_crew:
        await _load_or_open(context)


async def _load_or_open(context: StateContext) -> Roster:
    """Load the roster, or create it by clocking the opening crew in."""
    roster = await context.load(Roster, MAIN)
    if roster is None:
        crew = settings().opening_crew
        roster = Roster.of(crew, context.now)
        context.save(MAIN, roster)
        for arrival in crew:
            _publish_arrival(arrival, context)
    return roster


def _publish_arrival(arrival: Arrival, context: StateContext) -> None:
    context.publish(
        events.MemberClockedIn(member_id=arrival.member_id, name=arrival.name, role=arrival.role, at=context.now)
    )


async def clock_in(arrival: Arrival, context: StateContext) -> Roster:
    """Clock a member of staff in. Idempotent."""
    roster = await _load_or_open(context)
    if roster.clock_in(arrival, context.now):
        _publish_arrival(arrival, context)
        context.save(MAIN, roster)
    return roster


async def clock_out(member_id: str, context: StateContext) -> Roster:
    """Clock a member of staff out. With nobody left, accepted tickets are finished and new orders rejected.

    Raises:
        NotClockedIn: The member is not at work.

    """
    roster = await _load_or_open(context)
    roster.clock_out(member_id)
    context.publish(events.MemberClockedOut(member_id=member_id, at=context.now))
    context.save(MAIN, roster)
    return roster


async def read_ticket(order_id: str, context: StateContext) -> Ticket:
    """Return a ticket.

    Raises:
        NotFound: No confirmed order of this id has reached the kitchen.

    """
    return await context.require(Ticket, order_id, f"the kitchen has no ticket for order {order_id}")


async def do_step(done: StepDone, context: StateContext) -> Ticket:
    """Record a step that was done by hand.

    Raises:
        NotFound: There is no such ticket.
        WrongStep: Another step is due, or none.

    """
    ticket = await read_ticket(done.order_id, context)
    context.correlate(ticket.correlation_id)
    advance(ticket, done.step, context, passed=done.passed)
    return ticket


async def ran_out(ingredient: str, context: StateContext) -> list[str]:
    """Record that an ingredient has run out; return the skus that need it. Idempotent."""
    pantry = await context.load(Pantry, MAIN) or Pantry()
    since = pantry.ran_out(ingredient, context.now)
    if since is not None:
        context.publish(events.IngredientRanOut(ingredient=ingredient, ran_out_at=since))
        context.save(MAIN, pantry)
    return await _needing(ingredient, context)


async def delivered(ingredient: str, context: StateContext) -> list[str]:
    """Record that an ingredient was delivered; return the skus that need it. No effect if none was missing."""
    pantry = await context.load(Pantry, MAIN) or Pantry()
    since = pantry.delivered(ingredient, context.now)
    if since is not None:
        context.publish(events.IngredientDelivered(ingredient=ingredient, delivered_at=since))
        context.save(MAIN, pantry)
    return await _needing(ingredient, context)


async def _needing(ingredient: str, context: StateContext) -> list[str]:
    cookbook = await context.load(Cookbook, MAIN) or Cookbook()
    return cookbook.needing([ingredient])


async def read_board(limit: int, context: StateContext) -> Board:
    """Return the board with the oldest `limit` tickets in work."""
    roster, pantry = await context.load(Roster, MAIN), await context.load(Pantry, MAIN)
    shards = await asyncio.gather(*(context.load(BoardIndex, key) for key in shard_keys()))
    orders = [(since, order_id) for shard in shards if shard for order_id, since in shard.orders.items()]
    indexed = await asyncio.gather(*(context.load(Ticket, order_id) for _, order_id in sorted(orders)[:limit]))
    # The index is updated after the ticket: leave out tickets that were finished in between.
    tickets = [ticket for ticket in indexed if ticket is not None and ticket.in_work]
    return Board(roster or Roster(), sorted(pantry.missing) if pantry else [], tickets)


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
