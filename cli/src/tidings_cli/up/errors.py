"""Errors of the local run. Messages name the problem, its location and the fix."""

from tidings.errors import TidingsError


class UpError(TidingsError):
    """The local run cannot start or continue."""


class ProjectError(UpError):
    """`tidings.yaml` is invalid; the message begins with file, line and column."""


class PortTaken(UpError):
    """A port of the system is in use."""


class AlreadyRunning(UpError):
    """Another `tidings up` holds the run folder."""


class NotRunning(UpError):
    """The run, or the process in it, does not exist."""


class StartFailed(UpError):
    """A process failed or was not ready in time."""
