"""Apps that events can be replayed to: those whose dead letters reach the archive; and what waits for them."""

import ssl
from functools import cache
from pathlib import Path

import httpx2
import msgspec
import structlog
from prometheus_client.parser import text_string_to_metric_families

from tidings import Settings
from tidings.consume import policy
from tidings.conventions import DEAD_LETTER_PREFIX
from tidings.web.answers import PLAIN, AnswerTooLarge, read_bounded

log = structlog.get_logger(__name__)

LAG = "tidings_broker_lag"
"""Metric of the topology controller: events that wait at the broker, by app."""
TIMEOUT, MAX_METRICS = 2.0, 2**22
"""Seconds for the topology controller's answer, and its size in bytes: a page of the console waits for it."""

_UNREADABLE = (OSError, httpx2.HTTPError, httpx2.InvalidURL, AnswerTooLarge, ValueError, OverflowError, KeyError)
"""What may be wrong with a source; msgspec's errors and those of text that is no metric are ValueErrors."""


class _State(msgspec.Struct, frozen=True):
    broker_lag: dict[str, int]


async def read_lag(source: str) -> dict[str, int] | None:
    """Return the number of events that wait at the broker for each app, where any do; None if it is not measured.

    The source is the state file of a local run, or the URL of the topology controller's metrics on a cluster.
    """
    if not source:
        return None
    try:
        return await _scrape(source) if source.startswith("http") else _read_state(Path(source))
    except FileNotFoundError:  # nothing has been measured yet
        return None
    except _UNREADABLE as error:
        log.error("archive.lag_unreadable", source=source, error=repr(error))
        return None


def _read_state(path: Path) -> dict[str, int]:
    return msgspec.json.decode(path.read_bytes(), type=_State).broker_lag


async def _scrape(url: str) -> dict[str, int] | None:
    async with (
        httpx2.AsyncClient(headers=PLAIN, verify=_trusted(), timeout=TIMEOUT, trust_env=False) as client,
        client.stream("GET", url) as answer,
    ):
        answer.raise_for_status()
        text = (await read_bounded(answer, MAX_METRICS)).decode()
    samples = [sample for family in text_string_to_metric_families(text) for sample in family.samples]
    lag = {sample.labels["app"]: int(sample.value) for sample in samples if sample.name == LAG}
    # Each app of the plan has a sample; without any, the broker does not answer.
    return {app: count for app, count in lag.items() if count} if lag else None


@cache
def _trusted() -> ssl.SSLContext:
    """Load the trusted certificates once: it blocks for 25 ms, and each open console asks every two seconds."""
    return httpx2.create_ssl_context(trust_env=False)


def known_consumers() -> frozenset[str]:
    """Return the app ids in the plan, or an empty set without a plan.

    Raises:
        DefinitionError: The file that TIDINGS_POLICY names is not a policy.

    """
    planned = policy.read(Settings().tidings_policy)
    topics = (subscription.topic for subscription in planned.subscriptions)
    return frozenset(topic.removeprefix(DEAD_LETTER_PREFIX) for topic in topics if topic.startswith(DEAD_LETTER_PREFIX))
