"""Prometheus metrics of a service; `tidings.web.metrics` serves them on a separate port."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache

import structlog
from prometheus_client import Counter, Gauge, Histogram

from tidings.outcomes import Outcome

log = structlog.get_logger(__name__)

_HANDLED = Counter(
    "tidings_events_handled", "Deliveries by outcome; Ignored: no filter matched", ["subscription", "outcome"]
)
_SECONDS = Histogram(
    "tidings_event_handling_seconds",
    "Time from the delivery of an event to its outcome, including waits for limits",
    ["subscription"],
    buckets=(0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1.0, 5.0, 30.0),
)
_AGE = Histogram(
    "tidings_event_age_seconds",
    "Time from an event's time attribute to its first delivery (consumer lag); excludes replays",
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
    "Dead-lettered events by result: `published`; `malformed`, also published; `stored` in the outbox because the "
    "broker rejects it; `logged`, present in the log only",
    ["subscription", "result"],
)
_PUBLISHED = Counter("tidings_events_published", "Events sent to the broker by result", ["topic", "result"])
_BACKGROUND = Counter("tidings_background_failures", "Failures of background tasks, which were restarted", ["work"])
_WAITED = Counter("tidings_limit_wait_seconds", "Seconds for which deliveries waited for a limit", ["subscription"])
_WAITING = Gauge("tidings_limit_waiting", "Deliveries that are waiting for a limit", ["subscription"])
OUTBOX_DEPTH = Gauge("tidings_outbox_depth", "Units of work whose messages have not been published yet")
OUTBOX_LAG = Histogram(
    "tidings_outbox_lag_seconds",
    "Time from the commit of a unit of work to the broker's acknowledgement of its last event",
    buckets=(0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1.0, 5.0, 30.0, 120.0),
)
_DELAYED = Gauge(
    "tidings_events_delayed",
    "Failed events waiting for their next attempt outside of the broker",
    ["subscription"],
)
SLOT_LAG = Gauge("tidings_outbox_slot_lag_bytes", "Write-ahead log retained by PostgreSQL for the cdc outbox")
SLOT_LEFT = Gauge("tidings_outbox_slot_left_bytes", "Write-ahead log that can be written before the cdc slot is lost")

# A label look-up costs more than the count itself.
_handled = cache(_HANDLED.labels)
_seconds = cache(_SECONDS.labels)
_age = cache(_AGE.labels)
_published = cache(_PUBLISHED.labels)
_waited = cache(_WAITED.labels)
_waiting = cache(_WAITING.labels)


def safely(count: Callable[..., None], *values: object) -> None:
    """Update a metric; an error must not change the outcome of an event."""
    try:
        count(*values)
    except Exception as error:
        log.warning("metrics.failed", exc_info=error)


def handled(subscription: str, outcome: Outcome, seconds: float) -> None:
    """Count a delivery."""
    _handled(subscription, type(outcome).__name__).inc()
    _seconds(subscription).observe(seconds)


def aged(subscription: str, seconds: float | None) -> None:
    """Record the age of an event at its first delivery. Events without a valid time are not counted."""
    if seconds is not None:
        _age(subscription).observe(max(seconds, 0.0))


def reads(subscription: str, topic: str) -> None:
    """Record that a subscription reads a topic, with zero deliveries so far."""
    _READS.labels(subscription, topic).set(1)
    _age(subscription)
    _handled(subscription, "Ignored")


def ignored(subscription: str) -> None:
    """Count a delivery that matches none of a subscription's filters."""
    _handled(subscription, "Ignored").inc()


def published(topic: str, result: str, events: int = 1) -> None:
    """Count published events by result: `ok`, `refused`, `unavailable`, `parked`."""
    _published(topic, result).inc(events)


def background_failed(work: str) -> None:
    """Count a failure of a background task."""
    _BACKGROUND.labels(work).inc()


def dead_lettered(subscription: str, result: str) -> None:
    """Count a dead-lettered event: `published`, `malformed`, `stored`, `logged`."""
    _DEAD_LETTERS.labels(subscription, result).inc()


def delayed(subscription: str, events: int) -> None:
    """Set the number of events that wait for their next attempt outside of the broker."""
    _DELAYED.labels(subscription).set(events)


@contextmanager
def waiting(subscription: str) -> Iterator[Callable[[], None]]:
    """Count a delivery as waiting for its subscription's limits until the yielded function is called."""
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
