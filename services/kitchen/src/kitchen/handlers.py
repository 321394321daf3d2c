"""What the kitchen does about events and about its own scheduled messages."""

from __future__ import annotations

from kitchen import events
from kitchen.commands import FileTicket, TakeStep
from kitchen.domain import Cookbook, Line, Pantry, Rail, Roster, Ticket, rail_of
from kitchen.incoming import OrderCancelled, OrderConfirmed, RecipePublished
from kitchen.progress import advance, plan
from kitchen.settings import settings
from tidings import Handlers, StateContext

MAIN = "main"
"""The key of documents of which there is only one."""

handlers = Handlers()


@handlers.on(OrderConfirmed)
async def order_confirmed(event: OrderConfirmed, context: StateContext) -> None:
    """Take the order, or reject it at once."""
    if await context.load(Ticket, event.order_id) is not None:
        return  # told twice, or cancelled before it was told
    # Before the very first start has clocked its crew in, a backlog of orders may already come in.
    roster = await context.load(Roster, MAIN) or Roster.of(settings().opening_crew, context.now)
    ticket = Ticket.receive(
        event.order_id,
        event.lines,
        event.fulfilment,
        confirmed_at=event.confirmed_at,
        now=context.now,
        staffed=roster.staffed,
        sold_out=await _sold_out(event.lines, context),
        correlation_id=context.correlation_id,
    )
    context.save(ticket.order_id, ticket)
    if ticket.refusal:
        context.publish(
            events.OrderRejected(
                order_id=ticket.order_id, reason=ticket.refusal, rejected_at=context.now, skus=tuple(ticket.sold_out)
            )
        )
    else:
        context.schedule(FileTicket(order_id=ticket.order_id))
        plan(ticket, context)


async def _sold_out(lines: list[Line], context: StateContext) -> list[str]:
    pantry = await context.load(Pantry, MAIN)
    if pantry is None or not pantry.missing:
        return []
    cookbook = await context.load(Cookbook, MAIN) or Cookbook()
    return sorted({line.sku for line in lines} & set(cookbook.needing(pantry.missing)))


@handlers.on(OrderCancelled)
async def order_cancelled(event: OrderCancelled, context: StateContext) -> None:
    """Stop what is in work; what is boxed has left the kitchen already."""
    ticket = await context.load(Ticket, event.order_id)
    if ticket is None:
        context.save(event.order_id, Ticket.cancelled_unseen(event.order_id, context.now))
        return
    stage = ticket.stop(context.now)
    if stage is None:
        return
    context.save(ticket.order_id, ticket)
    context.schedule(FileTicket(order_id=ticket.order_id))
    if stage != "waiting":
        context.publish(events.PreparationStopped(order_id=ticket.order_id, stage=stage, stopped_at=context.now))


@handlers.on(RecipePublished)
async def recipe_published(event: RecipePublished, context: StateContext) -> None:
    """Learn what a pizza is made of."""
    cookbook = await context.load(Cookbook, MAIN) or Cookbook()
    if cookbook.learn(event.sku, event.ingredients, event.published_at):
        context.save(MAIN, cookbook)


@handlers.on(TakeStep)
async def take_step(event: TakeStep, context: StateContext) -> None:
    """Do what the crew had planned, unless the ticket has gone on without it."""
    ticket = await context.load(Ticket, event.order_id)
    if ticket is not None and ticket.moves == event.moves:
        advance(ticket, event.step, context, passed=ticket.passes(settings().failing_checks))


@handlers.on(FileTicket, once=False, concurrency=4)
async def file_ticket(event: FileTicket, context: StateContext) -> None:
    """Keep the board's index right.

    The rail is read before the ticket, and always written: of two that run at the same time, the one that saw the
    older ticket then loses its write and looks again.
    """
    key = rail_of(event.order_id)
    rail = await context.load(Rail, key) or Rail()
    ticket = await context.load(Ticket, event.order_id)
    if ticket is not None and ticket.in_work:
        rail.hang(event.order_id, ticket.confirmed_at or ticket.changed_at)
    else:
        rail.take_down(event.order_id)
    context.save(key, rail)
