"""Rebuild of the read model from the archive."""

from __future__ import annotations

from tidings import StateContext
from tidings.envelope import new_id
from tidings.events import message_type
from tracking.commands import ReplayEvents
from tracking.domain import ReadModel
from tracking.model import CURRENT, read_model
from tracking.timeline import TRACKED_EVENTS

APP = "tracking"


async def start(_: None, context: StateContext) -> ReadModel:
    """Start a new generation, and request a replay of all tracked events from the archive."""
    current = await read_model(context)
    replay_id = new_id()
    current.rebuild(replay_id, context.now)
    types = tuple(sorted(message_type(model).label for model in TRACKED_EVENTS))
    context.publish(ReplayEvents(replay_id=replay_id, consumer=APP, types=types))
    context.save(CURRENT, current)
    return current
