"""Which apps can be sent something again: those whose dead letters reach the archive."""

from __future__ import annotations

from functools import cache

from tidings import Settings
from tidings.consume import policy

_DEAD_LETTER_TOPIC = "deadletter."


@cache
def known() -> frozenset[str]:
    """The app ids, as the plan has them; empty where there is no plan.

    Raises:
        DefinitionError: TIDINGS_POLICY names no policy.

    """
    planned = policy.read(Settings().tidings_policy)
    topics = (each.topic for each in planned.subscriptions)
    return frozenset(topic.removeprefix(_DEAD_LETTER_TOPIC) for topic in topics if topic.startswith(_DEAD_LETTER_TOPIC))
