"""Apps that events can be replayed to: those whose dead letters reach the archive."""

from __future__ import annotations

from functools import cache

from tidings import Settings
from tidings.consume import policy
from tidings.conventions import DEAD_LETTER_PREFIX


@cache
def known_consumers() -> frozenset[str]:
    """Return the app ids in the plan, or an empty set without a plan.

    Raises:
        DefinitionError: The file that TIDINGS_POLICY names is not a policy.

    """
    planned = policy.read(Settings().tidings_policy)
    topics = (subscription.topic for subscription in planned.subscriptions)
    return frozenset(topic.removeprefix(DEAD_LETTER_PREFIX) for topic in topics if topic.startswith(DEAD_LETTER_PREFIX))
