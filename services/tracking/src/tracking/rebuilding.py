"""Builds the read model anew from the archive."""

from __future__ import annotations

from tidings import StateContext
from tidings.envelope import new_id
from tidings.events import message_type
from tracking.commands import ReplayEvents
from tracking.domain import ReadModel
from tracking.model import CURRENT, read_model
from tracking.telling import READ

APP = "tracking"


async def begin(_: None, context: StateContext) -> ReadModel:
    """Begin a new generation and ask the archive for every event of every order's way."""
    current = await read_model(context)
    replay_id = new_id()
    current.rebuild(replay_id, context.now)
    types = tuple(sorted(message_type(each).label for each in READ))
    context.publish(ReplayEvents(replay_id=replay_id, consumer=APP, types=types))
    context.save(CURRENT, current)
    return current


async def look(_: None, context: StateContext) -> ReadModel:
    """How it stands."""
    return await read_model(context)
