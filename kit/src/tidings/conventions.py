"""Names that all parts of Tidings share: topics, paths, a header, and environment variables of services."""

EVENTS_PATH = "/events/"
"""Prefix of all paths for events."""

REPLAY_PATH = "/events/replay"
"""Path for replayed events."""

IGNORED_PATH = "/events/ignored"
"""Path for events that match no filter of the app. The app must answer 2xx and do nothing.

Without a default path, daprd dead-letters every event that matches no rule (runtime/subscription, 1.18.1).
"""

DEAD_LETTER_PREFIX, REPLAY_PREFIX = "deadletter.", "replay."
ALL_DEAD_LETTERS = f"{DEAD_LETTER_PREFIX}*"
"""Pattern of an EventSubscription that reads the dead letters of all apps."""

RECORD_REPLAY_OUTCOME = "archive.recordReplayOutcome"
"""Type of the command that reports the outcome of a replayed event to the archive."""
REPLAY_OUTCOMES = f"{RECORD_REPLAY_OUTCOME}.v1"
"""Topic for the outcomes of replayed events."""

OWN_DOMAIN, ARCHIVE_APP = "tidings", "archive"
"""Reserved domain of the events that Tidings itself publishes, and the app id of the archive, which alone may do so."""

TOKEN_HEADER = "dapr-api-token"  # noqa: S105 - its name
"""Header in which an app and its sidecar send each other their API tokens."""

DAPR_API_TOKEN = "DAPR_API_TOKEN"  # noqa: S105 - its name
APP_API_TOKEN = "APP_API_TOKEN"  # noqa: S105 - its name
DAPR_GRPC_PORT = "DAPR_GRPC_PORT"
TIDINGS_DATA = "TIDINGS_DATA"
TIDINGS_INSTANCE = "TIDINGS_INSTANCE"
TIDINGS_KEYS = "TIDINGS_KEYS"
TIDINGS_METRICS_PORT = "TIDINGS_METRICS_PORT"
TIDINGS_POLICY = "TIDINGS_POLICY"


def dead_letter_topic(app: str) -> str:
    """Return the dead-letter topic of an app: one per app, because a replay targets only the app that failed."""
    return f"{DEAD_LETTER_PREFIX}{app}"


def replay_topic(app: str) -> str:
    """Return the topic for replays to an app."""
    return f"{REPLAY_PREFIX}{app}"


def event_path(topic: str) -> str:
    """Return the default path for events of a topic."""
    return f"{EVENTS_PATH}{topic}"
