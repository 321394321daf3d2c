"""Apps that events can be replayed to: those whose dead letters reach the archive; and what waits for them."""

from __future__ import annotations

from pathlib import Path

import msgspec
import structlog

from tidings import Settings
from tidings.consume import policy
from tidings.conventions import DEAD_LETTER_PREFIX

log = structlog.get_logger(__name__)


class _Lag(msgspec.Struct, frozen=True):
    broker_lag: dict[str, int]


def read_lag(path: Path | None) -> dict[str, int] | None:
    """Return the number of events that wait at the broker for each app, where any do; None if it is not measured."""
    if path is None:
        return None
    try:
        return msgspec.json.decode(path.read_bytes(), type=_Lag).broker_lag
    except FileNotFoundError:  # nothing has been measured yet
        return None
    except (OSError, msgspec.MsgspecError) as error:
        log.error("archive.lag_unreadable", path=str(path), error=str(error))
        return None


def known_consumers() -> frozenset[str]:
    """Return the app ids in the plan, or an empty set without a plan.

    Raises:
        DefinitionError: The file that TIDINGS_POLICY names is not a policy.

    """
    planned = policy.read(Settings().tidings_policy)
    topics = (subscription.topic for subscription in planned.subscriptions)
    return frozenset(topic.removeprefix(DEAD_LETTER_PREFIX) for topic in topics if topic.startswith(DEAD_LETTER_PREFIX))
