"""Handlers of the archive: store every event and dead letter, and run replays."""

from tidings import Handlers, Received
from tidings.conventions import DEAD_LETTER_PREFIX
from tidings.messages.events import message_type
from tidings.outbox.table import SqlContext
from tidings_archive import audit_log, redrives, replay_outcomes, replays
from tidings_archive.commands import CloseReplay, ContinueRedrive, ContinueReplay
from tidings_archive.events import RecordReplayOutcome, ReplayCompleted, ReplayEvents
from tidings_archive.recording import record_dead_letter, record_events, sorted_by_identity
from tidings_archive.replays import ReplayError, ReplayOrder

handlers = Handlers()
BATCH_SIZE = 200
_REPLAY_TOPIC = message_type(ReplayEvents).topic
_OWN_DEAD_LETTERS = f"{DEAD_LETTER_PREFIX}archive"
_STEPS = {message_type(step).name for step in (ContinueReplay, ContinueRedrive, CloseReplay)}


# deduplicate=False: the key of a row prevents duplicates; the inbox would drop versions of an event (same id).
# batch_size: one commit, which waits for the disk, stores many events of any topic.
# linger: at 100 events/s, a commit stores about seven events instead of one; nobody waits for the archive.
@handlers.any("archive-everything", deduplicate=False, batch_size=BATCH_SIZE, linger=0.02)
async def archive_events(events: list[Received], context: SqlContext) -> None:
    """Store events of any type."""
    await record_events(context.connection, events, context.now)


@handlers.any("archive-dead-letters", "archive-own-dead-letters", deduplicate=False, batch_size=BATCH_SIZE)
async def archive_dead_letters(letters: list[Received], context: SqlContext) -> None:
    """Store the dead letters of all apps, including the archive's own, until an operator decides about them.

    A step of a replay among them, such as one whose commit failed each time, ends the replay.
    """
    for letter in sorted_by_identity(letters):
        await record_dead_letter(context.connection, letter, context.now)
        if letter.topic == _OWN_DEAD_LETTERS and letter.envelope.type in _STEPS:
            await replays.fail(letter.envelope.subject, letter.envelope.failurereason, context)


@handlers.on(ReplayEvents)
async def replay_events(request: ReplayEvents, context: SqlContext) -> None:
    """Start a replay that another service requested, and store its command, which no other handler receives."""
    command = Received(context.metadata, context.metadata.encode(), _REPLAY_TOPIC)
    await record_events(context.connection, [command], context.now)
    try:
        await _start(request, context)
    except ReplayError as error:
        target = f"replay/{request.replay_id}"
        await audit_log.record(context.connection, context.now, context.metadata.source, "refused", target, str(error))
        # The requester waits for this event.
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


@handlers.batch(RecordReplayOutcome, batch_size=BATCH_SIZE)
async def record_replay_outcomes(outcomes: list[RecordReplayOutcome], context: SqlContext) -> None:
    """Record the outcomes that consumers confirm."""
    await replay_outcomes.record_outcomes(context.connection, outcomes, context.now)


@handlers.on(CloseReplay)
async def close_replay(command: CloseReplay, context: SqlContext) -> None:
    """Fix the last event of a replay."""
    await replays.set_last_event(command.replay_id, context)


@handlers.on(ContinueReplay)
async def continue_replay(step: ContinueReplay, context: SqlContext) -> None:
    """Send the next events of a replay."""
    await replays.send_next(step, context)


@handlers.on(ContinueRedrive)
async def continue_redrive(step: ContinueRedrive, context: SqlContext) -> None:
    """Send the next dead letters of a redrive."""
    await redrives.send_next(step, context)


async def _start(request: ReplayEvents, context: SqlContext) -> None:
    if not request.dry_run:
        await replays.start(ReplayOrder(request, context.metadata.source), context)
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
