"""What tracking does when something happens: it notes it. Twice is as once, and any order will do."""

from __future__ import annotations

from functools import cache

from tidings import Handlers, StateContext
from tracking import model
from tracking.commands import CountOrder
from tracking.consumed import OrderEvent, ReplayCompleted
from tracking.domain import Entry
from tracking.live import Live
from tracking.model import CURRENT, News, read_model
from tracking.settings import settings
from tracking.telling import READ, tell

handlers = Handlers()


@cache
def live() -> Live:
    """What this replica's streams watch."""
    return Live(settings().latest)


@handlers.on(*READ, once=False)
async def note(event: OrderEvent, context: StateContext) -> None:
    """Note an event of an order's way, and wake who watches; what is replayed is news to nobody."""
    words, fact = tell(event)
    about = context.metadata
    entry = Entry(
        id=about.id, type=about.type, version=int(about.version), time=context.time, source=about.source, words=words
    )
    order = await model.note(News(event.order_id, entry, fact), context)
    if order is not None and not about.replayto:
        context.after_commit(lambda: live().changed(order))


@handlers.on(CountOrder)
async def count_order(counted: CountOrder, context: StateContext) -> None:
    """Count an order in the totals, once."""
    await model.count(counted, context)


@handlers.on(ReplayCompleted)
async def complete_rebuild(completed: ReplayCompleted, context: StateContext) -> None:
    """Let the rebuilt model stand alone, or end the rebuild where its replay was not carried out whole."""
    current = await read_model(context)
    if completed.state == "completed":
        changed = current.complete(completed.replay_id, completed.count, context.now)
    else:
        changed = current.fail(completed.replay_id, completed.reason, context.now)
    if changed:
        context.save(CURRENT, current)
