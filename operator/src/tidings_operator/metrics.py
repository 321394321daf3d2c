"""Prometheus metrics of the operator."""

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

REGISTRY = CollectorRegistry()

RECONCILE = Histogram(
    "tidings_operator_reconcile_seconds",
    "Time to look at one thing and write what differs",
    ["what"],
    buckets=(0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 10),
    registry=REGISTRY,
)
WAITED = Histogram(
    "tidings_operator_queue_seconds",
    "Time that a change waited before it was looked at",
    buckets=(0.001, 0.005, 0.01, 0.05, 0.1, 0.5, 1, 5, 15, 60),
    registry=REGISTRY,
)
QUEUE = Gauge("tidings_operator_queue_length", "Things that are being looked at, or wait for it", registry=REGISTRY)
ERRORS = Counter(
    "tidings_operator_errors_total", "Failed attempts, by what and why", ["what", "why"], registry=REGISTRY
)
WRITES = Counter("tidings_operator_writes_total", "Writes to the API server", ["kind", "action"], registry=REGISTRY)
DRIFT = Counter(
    "tidings_operator_drift_repaired_total", "Children that somebody had changed", ["kind"], registry=REGISTRY
)
ADMISSIONS = Counter(
    "tidings_operator_admissions_total", "Changes that the webhook judged", ["kind", "verdict"], registry=REGISTRY
)
WATCH_AGE = Gauge(
    "tidings_operator_watch_age_seconds", "Seconds since a watch last gave a sign of life", registry=REGISTRY
)
DECLARED = Gauge("tidings_operator_declared_subscriptions", "EventSubscriptions that there are", registry=REGISTRY)
READY = Gauge("tidings_operator_ready_subscriptions", "EventSubscriptions that are Ready", registry=REGISTRY)
OBSERVED = Gauge("tidings_operator_observed_apps", "Apps whose sidecars answered", registry=REGISTRY)
LEADER = Gauge("tidings_operator_leader", "1 while this operator is the one that writes", registry=REGISTRY)
SYNCED = Gauge("tidings_operator_synced", "1 once everything has been seen", registry=REGISTRY)
