"""The consumer policy: the settings of a service's EventSubscriptions, in the JSON that `tidings_plan` renders.

The operator (ConfigMap), `tidings up` and `tidings render` write the same JSON; `TIDINGS_POLICY` names the file.
"""

from pathlib import Path

import msgspec

from tidings.errors import DefinitionError
from tidings.messages.envelope import UNREADABLE


class RetryPolicy(msgspec.Struct, frozen=True, rename="camel"):
    """Retries of a subscription's events before they are dead-lettered. Durations are in seconds."""

    policy: str = "exponential"
    duration: float = 0.5
    max_interval: float = 10.0
    max_retries: int = 5


class RateLimit(msgspec.Struct, frozen=True, rename="camel"):
    """At most `events` per `per` seconds, with bursts of up to `burst`."""

    events: float
    per: float = 1.0
    burst: int = 1


class Ordering(msgspec.Struct, frozen=True, rename="camel"):
    """Events with the same `key`, by default the subject, are handled one after the other unless `mode` is `none`."""

    mode: str = "none"
    key: str = "subject"

    @property
    def is_ordered(self) -> bool:
        """True if events with the same key are handled one after the other."""
        return self.mode.lower() != "none"


class SubscriptionPolicy(msgspec.Struct, frozen=True, rename="camel"):
    """The settings of one EventSubscription that the SDK enforces. `timeout` is in seconds."""

    name: str
    type: str
    path: str
    topic: str = ""
    versions: tuple[int, ...] = ()
    pubsub: str = "pubsub"
    max_concurrency: int | None = None
    rate_limit: RateLimit | None = None
    retry: RetryPolicy = RetryPolicy()
    timeout: float | None = 10.0
    dead_letter_topic: str | None = None
    ordering: Ordering = Ordering()
    suspend: bool = False


class Policy(msgspec.Struct, frozen=True, rename="camel"):
    """All subscriptions of one app."""

    app: str = ""
    subscriptions: tuple[SubscriptionPolicy, ...] = ()
    dead_letter_topic: str | None = None
    replay_topic: str | None = None

    def by_path(self) -> dict[str, list[SubscriptionPolicy]]:
        """Group the subscriptions by ingress path, which several types or versions may share."""
        grouped: dict[str, list[SubscriptionPolicy]] = {}
        for subscription in self.subscriptions:
            grouped.setdefault(subscription.path, []).append(subscription)
        return grouped


def read(path: Path | None) -> Policy:
    """Read a policy file. Without a path, return an empty policy, so that every handler uses the defaults.

    Raises:
        DefinitionError: The file is missing or not a policy; the message names the field.

    """
    if path is None:
        return Policy()
    try:
        return msgspec.json.decode(path.read_bytes(), type=Policy)
    except (OSError, *UNREADABLE) as error:
        raise DefinitionError(
            f"TIDINGS_POLICY={path}: {error}; render the policy again with `tidings render`"
        ) from error
