"""Prometheus metrics of a service; `tidings.web.metrics` serves them on a port of their own."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime
from functools import cache

import structlog
from prometheus_client import Counter, Gauge, Histogram

from tidings.observability import instruments as tallies
from tidings.outcomes import Outcome

log = structlog.get_logger(__name__)

_HANDLED = tallies.Counter(
    "tidings_events_handled", "Deliveries by outcome; Ignored is what no filter wants", ["subscription", "outcome"]
)
_SECONDS = tallies.Histogram(
    "tidings_event_handling_seconds",
    "From the delivery of an event to its outcome, waiting for limits included",
    ["subscription"],
    buckets=(0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1.0, 5.0, 30.0),
)
_AGE = tallies.Histogram(
    "tidings_event_age_seconds",
    "From the time an event says to its first delivery here: how far a consumer is behind; replays are left out",
    ["subscription"],
    buckets=(0.01, 0.05, 0.25, 1.0, 5.0, 30.0, 120.0, 600.0, 3600.0),
)
_READS = Gauge(
    "tidings_subscription_reads",
    "1 for each topic that a subscription reads, unless it is suspended",
    ["subscription", "topic"],
)
_DEAD_LETTERS = Counter(
    "tidings_dead_letters",
    "Events given up by what became of the dead letter: `published`; `malformed`, published, too; `stored` in the "
    "outbox because the broker refuses it; `logged`, to be found only in the log",
    ["subscription", "result"],
)
_PUBLISHED = Counter("tidings_events_published", "Events handed to the broker by result", ["topic", "result"])
_BACKGROUND = Counter("tidings_background_failures", "Failures of work in the background, which began anew", ["work"])
_WAITED = Counter("tidings_limit_wait_seconds", "Seconds that deliveries waited for a limit", ["subscription"])
_WAITING = Gauge("tidings_limit_waiting", "Deliveries that wait for a limit now", ["subscription"])
OUTBOX_DEPTH = Gauge("tidings_outbox_depth", "Units of work whose messages are not delivered yet")
OUTBOX_LAG = Histogram(
    "tidings_outbox_lag_seconds",
    "From the commit of a unit of work to the broker's acknowledgement of its last event",
    buckets=(0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1.0, 5.0, 30.0, 120.0),
)
_DELAYED = Gauge(
    "tidings_events_delayed",
    "Events that failed and wait for their next attempt outside of the broker",
    ["subscription"],
)
SLOT_LAG = Gauge("tidings_outbox_slot_lag_bytes", "Write-ahead log that PostgreSQL keeps for the cdc outbox")
SLOT_LEFT = Gauge("tidings_outbox_slot_left_bytes", "Write-ahead log that may follow until the cdc slot is lost")

# A label look-up costs more than the count itself.
_handled = cache(_HANDLED.labels)
_seconds = cache(_SECONDS.labels)
_age = cache(_AGE.labels)
_published = cache(_PUBLISHED.labels)
_waited = cache(_WAITED.labels)
_waiting = cache(_WAITING.labels)


def safely(count: Callable[..., None], *values: object) -> None:
    """Count; an error in that must not change what becomes of an event."""
    try:
        count(*values)
    except Exception as error:
        log.warning("metrics.failed", exc_info=error)


def handled(subscription: str, outcome: Outcome, seconds: float) -> None:
    """Count a delivery."""
    _handled(subscription, type(outcome).__name__).inc()
    _seconds(subscription).observe(seconds)


def aged(subscription: str, happened: str, now: float) -> None:
    """Note how old an event is that is delivered for the first time, `now`; one that does not say when is left out."""
    try:
        seconds = now - datetime.fromisoformat(happened).timestamp()
    except ValueError:
        return
    _age(subscription).observe(max(seconds, 0.0))


def reads(subscription: str, topic: str) -> None:
    """Say that a subscription reads a topic, and has been delivered nothing yet: who stays at that is behind."""
    _READS.labels(subscription, topic).set(1)
    _age(subscription)
    _handled(subscription, "Ignored")


def ignored(subscription: str) -> None:
    """Count a delivery that none of a subscription's filters wants: it reads, and is not behind."""
    _handled(subscription, "Ignored").inc()


def published(topic: str, result: str, events: int = 1) -> None:
    """Count events that were handed to the broker, or were not: `ok`, `refused`, `unavailable`, `parked`."""
    _published(topic, result).inc(events)


def background_failed(work: str) -> None:
    """Count a failure of work in the background."""
    _BACKGROUND.labels(work).inc()


def dead_lettered(subscription: str, result: str) -> None:
    """Count an event that was given up: `published`, `malformed`, `stored`, `logged`."""
    _DEAD_LETTERS.labels(subscription, result).inc()


def delayed(subscription: str, events: int) -> None:
    """Say how many events of a subscription wait for their next attempt outside of the broker."""
    _DELAYED.labels(subscription).set(events)


@contextmanager
def waiting(subscription: str) -> Iterator[Callable[[], None]]:
    """Count a delivery among those that wait for their subscription's limits, until what this gives is called."""
    began, gauge = time.perf_counter(), _waiting(subscription)
    ended = False

    def end() -> None:
        nonlocal ended
        if not ended:
            ended = True
            gauge.dec()
            _waited(subscription).inc(time.perf_counter() - began)

    gauge.inc()
    try:
        yield end
    finally:
        end()
