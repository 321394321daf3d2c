"""Apps that events can be replayed to: those whose dead letters reach the archive."""

from __future__ import annotations

from functools import cache

from tidings import Settings
from tidings.consume import policy

_DEAD_LETTER_TOPIC = "deadletter."


@cache
def known_consumers() -> frozenset[str]:
    """Return the app ids in the plan, or an empty set without a plan.

    Raises:
        DefinitionError: The file that TIDINGS_POLICY names is not a policy.

    """
    planned = policy.read(Settings().tidings_policy)
    topics = (subscription.topic for subscription in planned.subscriptions)
    return frozenset(topic.removeprefix(_DEAD_LETTER_TOPIC) for topic in topics if topic.startswith(_DEAD_LETTER_TOPIC))
