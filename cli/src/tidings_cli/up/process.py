"""A process of the system as data: planned by pure code, run by the supervisor."""

import signal
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from tidings_cli.up.probes import Probe
from tidings_cli.up.state import Role

BACKENDS: frozenset[Role] = frozenset({"broker", "store"})
"""Roles started first: a sidecar exits if it cannot reach its components."""
STOPPING: tuple[frozenset[Role], ...] = (
    frozenset({"service"}),
    frozenset({"sidecar"}),
    frozenset({"program"}),
    frozenset({"broker", "store"}),
)
"""Order of stopping: services drain while their sidecars still publish for them; the broker stops last."""


@dataclass(frozen=True, slots=True)
class Process:
    """A process to start, with its readiness probe."""

    name: str
    role: Role
    app: str
    argv: tuple[str, ...]
    ready: Probe
    cwd: Path
    env: Mapping[str, str] = field(default_factory=dict)
    """Added to the environment of `tidings up`."""
    ports: Mapping[str, int] = field(default_factory=dict)
    grace: float = 10.0
    """Seconds between the stop signal and SIGKILL."""
    stop_signal: signal.Signals = signal.SIGTERM
    user: str | None = None
    """Account to run under; None for the current one."""
