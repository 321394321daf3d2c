"""What can go wrong before or while the system starts; every message says what, where and how to mend it."""

from __future__ import annotations

from tidings.errors import TidingsError


class UpError(TidingsError):
    """The local run cannot start, or cannot go on."""


class ProjectError(UpError):
    """`tidings.yaml` is wrong; the message begins with file, line and column."""


class PortTaken(UpError):
    """Something already listens where a part of the system should."""


class AlreadyRunning(UpError):
    """Another `tidings up` holds the run folder."""


class NotRunning(UpError):
    """There is no such run, or no such process in it."""


class StartFailed(UpError):
    """A process did not become ready in time, or gave up."""
