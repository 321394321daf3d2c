"""Handlers of tracking. All are idempotent and independent of the order of arrival."""

from __future__ import annotations

from tidings import Handlers, StateContext
from tracking.commands import CountOrder, EndRebuild
from tracking.consumed import OrderEvent, ReplayCompleted
from tracking.domain import Entry
from tracking.settings import settings
from tracking.use_cases import model
from tracking.use_cases.live import live
from tracking.use_cases.model import CURRENT, OrderChange, read_model
from tracking.use_cases.timeline import TRACKED_EVENTS, describe, driver_of

handlers = Handlers()


@handlers.on(*TRACKED_EVENTS, deduplicate=False)
async def track(event: OrderEvent, context: StateContext) -> None:
    """Add an event to the timeline of its order, and notify open streams."""
    words, fact = describe(event)
    metadata = context.metadata
    entry = Entry(
        id=metadata.id,
        type=metadata.type,
        version=int(metadata.version),
        time=context.time,
        source=metadata.source,
        words=words,
        driver=driver_of(event),
    )
    is_replay = bool(metadata.replayto)
    order = await model.add(OrderChange(event.order_id, entry, fact, is_replay), context)
    # Replayed events are history: streams must not show them as changes.
    if order is not None and not is_replay:
        context.after_commit(lambda: live().changed(order))


@handlers.on(CountOrder)
async def count_order(counted: CountOrder, context: StateContext) -> None:
    """Update the totals for one order."""
    await model.count(counted, context)


@handlers.on(ReplayCompleted)
async def complete_rebuild(completed: ReplayCompleted, context: StateContext) -> None:
    """Complete the rebuild, or end it as failed if its replay was incomplete."""
    current = await read_model(context)
    if completed.state == "completed":
        changed = current.complete(completed.replay_id, completed.count, context.now)
    else:
        changed = current.fail(completed.replay_id, completed.reason, context.now)
    if changed:
        context.save(CURRENT, current)


@handlers.on(EndRebuild)
async def end_rebuild(due: EndRebuild, context: StateContext) -> None:
    """End a rebuild whose replay has not ended in time; all generations stay readable, and it can be started again."""
    current = await read_model(context)
    reason = f"the archive did not report the end of the replay within {settings().rebuild_timeout:g} seconds"
    if current.fail(due.replay_id, reason, context.now):
        context.save(CURRENT, current)
