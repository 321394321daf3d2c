"""What the API asks for, each as one unit of work."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

from kitchen import events
from kitchen.domain import Arrival, Cookbook, Pantry, Rail, Roster, Step, Ticket, rails
from kitchen.handlers import MAIN
from kitchen.progress import advance
from kitchen.settings import settings
from tidings import StateContext


class UnknownTicket(LookupError):
    """No confirmed order of this id has reached the kitchen."""


@dataclass(frozen=True, slots=True)
class StepDone:
    """A person has done a step of a ticket."""

    order_id: str
    step: Step
    passed: bool = True


@dataclass(frozen=True, slots=True)
class Board:
    """What is going on: who is there, what has run out, and the tickets in work, oldest first."""

    roster: Roster
    missing: list[str]
    tickets: list[Ticket]


async def open_kitchen(context: StateContext) -> None:
    """Clock the opening crew in, at the first start ever."""
    if settings().opening_crew:
        await _roster(context)


async def _roster(context: StateContext) -> Roster:
    """The roster; where there is none yet, the opening crew clocks in."""
    roster = await context.load(Roster, MAIN)
    if roster is None:
        crew = settings().opening_crew
        roster = Roster.of(crew, context.now)
        context.save(MAIN, roster)
        for each in crew:
            _tell_arrival(each, context)
    return roster


def _tell_arrival(arrival: Arrival, context: StateContext) -> None:
    context.publish(
        events.MemberClockedIn(member_id=arrival.member_id, name=arrival.name, role=arrival.role, at=context.now)
    )


async def clock_in(arrival: Arrival, context: StateContext) -> Roster:
    """Somebody comes to work; twice is as once."""
    roster = await _roster(context)
    if roster.clock_in(arrival, context.now):
        _tell_arrival(arrival, context)
        context.save(MAIN, roster)
    return roster


async def clock_out(member_id: str, context: StateContext) -> Roster:
    """Somebody goes home. Tickets that were taken are still finished; without anybody there, none is taken.

    Raises:
        NotClockedIn: They are not there.

    """
    roster = await _roster(context)
    roster.clock_out(member_id)
    context.publish(events.MemberClockedOut(member_id=member_id, at=context.now))
    context.save(MAIN, roster)
    return roster


async def read_ticket(order_id: str, context: StateContext) -> Ticket:
    """Look at one ticket.

    Raises:
        UnknownTicket: There is none.

    """
    ticket = await context.load(Ticket, order_id)
    if ticket is None:
        raise UnknownTicket(f"the kitchen has no ticket for order {order_id}")
    return ticket


async def do_step(done: StepDone, context: StateContext) -> Ticket:
    """Note a step that a person has done.

    Raises:
        UnknownTicket: There is no such ticket.
        WrongStep: Another step comes next, or none.

    """
    ticket = await read_ticket(done.order_id, context)
    context.correlate(ticket.correlation_id)
    advance(ticket, done.step, context, passed=done.passed)
    return ticket


async def ran_out(ingredient: str, context: StateContext) -> list[str]:
    """Note that an ingredient is gone; gives the skus that cannot be made without it. Twice is as once."""
    pantry = await context.load(Pantry, MAIN) or Pantry()
    since = pantry.ran_out(ingredient, context.now)
    if since is not None:
        context.publish(events.IngredientRanOut(ingredient=ingredient, ran_out_at=since))
        context.save(MAIN, pantry)
    return await _needing(ingredient, context)


async def delivered(ingredient: str, context: StateContext) -> list[str]:
    """Note that an ingredient is there again; gives the skus that need it. Nothing happens where none was missing."""
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
    """Look at everything in work, at most `limit` tickets.

    The rails say which tickets to look at, the tickets themselves how far they are: one that was finished a moment
    ago is not shown even while it still hangs.
    """
    roster, pantry = await context.load(Roster, MAIN), await context.load(Pantry, MAIN)
    hung = await asyncio.gather(*(context.load(Rail, key) for key in rails()))
    orders = [(since, order_id) for rail in hung if rail for order_id, since in rail.orders.items()]
    found = await asyncio.gather(*(context.load(Ticket, order_id) for _, order_id in sorted(orders)[:limit]))
    tickets = [ticket for ticket in found if ticket is not None and ticket.in_work]
    return Board(roster or Roster(), sorted(pantry.missing) if pantry else [], tickets)
