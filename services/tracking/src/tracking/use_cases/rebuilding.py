"""Rebuild of the read model from the archive."""

from datetime import timedelta

from tidings import StateContext
from tidings.messages.envelope import new_id
from tidings.messages.events import message_type
from tracking.commands import EndRebuild, ReplayEvents
from tracking.domain import ReadModel
from tracking.settings import settings
from tracking.use_cases.model import CURRENT, read_model
from tracking.use_cases.timeline import TRACKED_EVENTS

APP = "tracking"


async def start(_: None, context: StateContext) -> ReadModel:
    """Start a new generation, and request a replay of all tracked events from the archive."""
    current = await read_model(context)
    replay_id = new_id()
    current.rebuild(replay_id, context.now)
    types = tuple(sorted(message_type(model).label for model in TRACKED_EVENTS))
    context.publish(ReplayEvents(replay_id=replay_id, consumer=APP, types=types))
    # The archive may never answer: a rebuild ends all the same.
    context.schedule(EndRebuild(replay_id=replay_id), after=timedelta(seconds=settings().rebuild_timeout))
    context.save(CURRENT, current)
    return current
