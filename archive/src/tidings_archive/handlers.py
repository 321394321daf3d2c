"""What archive does when something happens: it keeps it, whatever it is."""

from __future__ import annotations

from tidings import Handlers, Received
from tidings.messages.events import message_type
from tidings.outbox.table import SqlContext
from tidings_archive import confirming, replays
from tidings_archive.auditing import note
from tidings_archive.commands import CloseReplay, ContinueReplay
from tidings_archive.events import RecordReplayOutcome, ReplayCompleted, ReplayEvents
from tidings_archive.keeping import in_one_order, keep_dead_letter, keep_events
from tidings_archive.replays import Asked, ReplayError

handlers = Handlers()
AT_ONCE = 200
_REPLAY_TOPIC = message_type(ReplayEvents).topic


# deduplicate=False: a row's own key says that it is there already; all versions of a fact, each a row, share one id.
# together: a commit waits for the disk, and what arrives meanwhile, from whatever topic, needs only one more.
@handlers.any("archive-everything", deduplicate=False, batch_size=AT_ONCE)
async def keep_everything(events: list[Received], context: SqlContext) -> None:
    """Keep events of whatever type."""
    await keep_events(context.connection, events, context.now)


@handlers.any("archive-dead-letters", "archive-own-dead-letters", deduplicate=False, batch_size=AT_ONCE)
async def keep_dead_letters(letters: list[Received], context: SqlContext) -> None:
    """Keep what apps could not handle, this one included, until a person decides about it."""
    for letter in in_one_order(letters):
        await keep_dead_letter(context.connection, letter, context.now)


@handlers.on(ReplayEvents)
async def replay_events(request: ReplayEvents, context: SqlContext) -> None:
    """Begin a replay that another service asked for, and keep its command, which no other handler sees."""
    whole = Received(context.metadata, context.metadata.encode(), _REPLAY_TOPIC)
    await keep_events(context.connection, [whole], context.now)
    try:
        await _begin(request, context)
    except ReplayError as error:
        target = f"replay/{request.replay_id}"
        await note(context.connection, context.now, context.metadata.source, "refused", target, str(error))
        # Whoever waits for the end of this replay learns that there is none to wait for.
        context.publish(
            ReplayCompleted(
                replay_id=request.replay_id,
                consumer=request.consumer,
                count=0,
                completed_at=context.now,
                dry_run=request.dry_run,
                state="failed",
                reason=str(error),
            )
        )


@handlers.batch(RecordReplayOutcome, batch_size=AT_ONCE)
async def record_replay_outcomes(confirmed: list[RecordReplayOutcome], context: SqlContext) -> None:
    """Record what consumers confirm of replayed events."""
    await confirming.record(context.connection, confirmed, context.now)


@handlers.on(CloseReplay)
async def close_replay(due: CloseReplay, context: SqlContext) -> None:
    """Write down which event is the last one of a replay."""
    await replays.close(due.replay_id, context)


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
