"""Handlers of the kitchen for events and for its own scheduled messages."""

from kitchen import events
from kitchen.commands import IndexTicket, TakeStep
from kitchen.consumed import OrderCancelled, OrderConfirmed, RecipePublished
from kitchen.domain import BoardIndex, Cookbook, Line, Pantry, Roster, Ticket, shard_key
from kitchen.settings import settings
from kitchen.use_cases import MAIN, advance, plan
from tidings import Handlers, StateContext

handlers = Handlers()


@handlers.on(OrderConfirmed)
async def order_confirmed(event: OrderConfirmed, context: StateContext) -> None:
    """Accept the order, or reject it immediately."""
    if await context.load(Ticket, event.order_id) is not None:
        return  # a duplicate, or the cancellation arrived first
    # On the very first start, a backlog of orders may arrive before the startup hook has clocked the crew in.
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
        context.schedule(IndexTicket(order_id=ticket.order_id))
        plan(ticket, context)


async def _sold_out(lines: list[Line], context: StateContext) -> list[str]:
    pantry = await context.load(Pantry, MAIN)
    if pantry is None or not pantry.missing:
        return []
    cookbook = await context.load(Cookbook, MAIN) or Cookbook()
    return sorted({line.sku for line in lines} & set(cookbook.needing(pantry.missing)))


@handlers.on(OrderCancelled)
async def order_cancelled(event: OrderCancelled, context: StateContext) -> None:
    """Stop an order that is in work; a boxed order has already left the kitchen."""
    ticket = await context.load(Ticket, event.order_id)
    if ticket is None:
        context.save(event.order_id, Ticket.cancelled_unseen(event.order_id, context.now))
        return
    stage = ticket.stop(context.now)
    if stage is None:
        return
    context.save(ticket.order_id, ticket)
    context.schedule(IndexTicket(order_id=ticket.order_id))
    if stage != "waiting":
        context.publish(events.PreparationStopped(order_id=ticket.order_id, stage=stage, stopped_at=context.now))


@handlers.on(RecipePublished)
async def recipe_published(event: RecipePublished, context: StateContext) -> None:
    """Store the recipe, unless a newer one is known."""
    cookbook = await context.load(Cookbook, MAIN) or Cookbook()
    if cookbook.add(event.sku, event.ingredients, event.published_at):
        context.save(MAIN, cookbook)


@handlers.on(TakeStep)
async def take_step(event: TakeStep, context: StateContext) -> None:
    """Do the planned step, unless the ticket has moved on in the meantime."""
    ticket = await context.load(Ticket, event.order_id)
    if ticket is not None and ticket.moves == event.moves:
        advance(ticket, event.step, context, passed=ticket.passes(settings().failing_checks))


@handlers.on(IndexTicket, deduplicate=False, concurrency=4)
async def index_ticket(event: IndexTicket, context: StateContext) -> None:
    """Update the board index from the ticket."""
    # Read the index before the ticket and always write it. Of two concurrent updates, the one that read the older
    # ticket then gets a conflict and is retried.
    key = shard_key(event.order_id)
    shard = await context.load(BoardIndex, key) or BoardIndex()
    ticket = await context.load(Ticket, event.order_id)
    if ticket is not None and ticket.in_work:
        shard.add(event.order_id, ticket.confirmed_at or ticket.changed_at)
    else:
        shard.remove(event.order_id)
    context.save(key, shard)
