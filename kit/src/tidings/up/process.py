"""One process of the system, as data: made by pure planning, kept alive by the supervisor."""

from __future__ import annotations

import signal
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from tidings.up.probes import Probe
from tidings.up.state import Role

BACKENDS: frozenset[Role] = frozenset({"broker", "store"})
"""Started first: a sidecar that does not reach its components ends at once."""
STOPPING: tuple[frozenset[Role], ...] = (
    frozenset({"service"}),
    frozenset({"sidecar"}),
    frozenset({"program"}),
    frozenset({"broker", "store"}),
)
"""Order of the stop: services drain while their sidecars still publish for them, the broker goes last."""


@dataclass(frozen=True, slots=True)
class Process:
    """What to start, and how to tell that it is ready."""

    name: str
    role: Role
    app: str
    argv: tuple[str, ...]
    ready: Probe
    cwd: Path
    env: Mapping[str, str] = field(default_factory=dict)
    """Added to the environment that `tidings up` itself has."""
    ports: Mapping[str, int] = field(default_factory=dict)
    grace: float = 10.0
    """Seconds between the request to stop and SIGKILL."""
    stop_signal: signal.Signals = signal.SIGTERM
    user: str | None = None
    """Account to run under; None is the present one."""
