"""Handlers of tracking. All are idempotent and independent of the order of arrival."""

from datetime import datetime

from tidings import Handlers, StateContext
from tidings.messages.envelope import Envelope
from tracking.commands import CountOrder, EndRebuild
from tracking.consumed import OrderEvent, ReplayCompleted
from tracking.domain import Entry
from tracking.settings import settings
from tracking.use_cases import model
from tracking.use_cases.live import live
from tracking.use_cases.model import CURRENT, OrderChange, read_model
from tracking.use_cases.timeline import TRACKED_EVENTS, describe, driver_of

handlers = Handlers()


# key: one document per order. linger: an order's events often follow each other closely, and then share one write.
@handlers.batch(*TRACKED_EVENTS, key=lambda event: event.order_id, linger=settings().linger, deduplicate=False)
async def track(events: list[OrderEvent], context: StateContext) -> None:
    """Add events of one order to its timeline, and notify open streams."""
    changes = [_change(*each, context.now) for each in zip(events, context.batch_metadata, strict=True)]
    order = await model.add(events[0].order_id, changes, context)
    # Replayed events are history: streams must not show them as changes.
    if order is not None and not all(change.is_replay for change in changes):
        context.after_commit(lambda: live().changed(order))


def _change(event: OrderEvent, metadata: Envelope, now: datetime) -> OrderChange:
    words, fact = describe(event)
    entry = Entry(
        id=metadata.id,
        type=metadata.type,
        version=int(metadata.version),
        time=datetime.fromisoformat(metadata.time) if metadata.time else now,
        source=metadata.source,
        words=words,
        driver=driver_of(event),
    )
    return OrderChange(entry, fact, is_replay=bool(metadata.replayto))


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
