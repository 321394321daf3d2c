"""What archive does when something happens: it keeps it, whatever it is."""

from __future__ import annotations

from archive import replays
from archive.auditing import note
from archive.commands import ContinueReplay
from archive.events import ReplayCompleted, ReplayEvents
from archive.keeping import keep_dead_letter, keep_event
from archive.replays import Asked, ReplayError
from tidings import Handlers, Received
from tidings.events import message_type
from tidings.outbox.table import SqlContext

handlers = Handlers()
_REPLAY_TOPIC = message_type(ReplayEvents).topic


# once=False: a row's own key says that it is there already; all versions of a fact, each a row, share one id.
@handlers.any("archive-everything", once=False)
async def keep_everything(received: Received, context: SqlContext) -> None:
    """Keep an event of whatever type."""
    await keep_event(context.connection, received, context.now)


@handlers.any("archive-dead-letters", once=False)
async def keep_dead_letters(received: Received, context: SqlContext) -> None:
    """Keep what another app could not handle, until a person decides about it."""
    await keep_dead_letter(context.connection, received, context.now)


@handlers.on(ReplayEvents)
async def replay_events(request: ReplayEvents, context: SqlContext) -> None:
    """Begin a replay that another service asked for, and keep its command, which no other handler sees."""
    whole = Received(context.metadata, context.metadata.encode(), _REPLAY_TOPIC)
    await keep_event(context.connection, whole, context.now)
    try:
        await _begin(request, context)
    except ReplayError as error:
        target = f"replay/{request.replay_id}"
        await note(context.connection, context.now, context.metadata.source, "refused", target, str(error))


@handlers.on(ContinueReplay)
async def continue_replay(step: ContinueReplay, context: SqlContext) -> None:
    """Send the next events of a replay."""
    await replays.go_on(step, context)


async def _begin(request: ReplayEvents, context: SqlContext) -> None:
    if not request.dry_run:
        await replays.begin(Asked(request, context.metadata.source), context)
        return
    matched = await replays.preview(context.connection, request)
    context.publish(
        ReplayCompleted(
            replay_id=request.replay_id,
            consumer=request.consumer,
            count=sum(matched.values()),
            completed_at=context.now,
            dry_run=True,
        )
    )
