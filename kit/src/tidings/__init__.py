"""Event-driven services on Dapr: publish events, consume each of them once, and see which services consume them."""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tidings.consume.handlers import Handlers as Handlers
    from tidings.consume.policy import RetryPolicy as RetryPolicy
    from tidings.context import Context as Context
    from tidings.errors import Rejected as Rejected
    from tidings.errors import TidingsError as TidingsError
    from tidings.marks import PERSONAL as PERSONAL
    from tidings.marks import SUBJECT as SUBJECT
    from tidings.messages.envelope import Received as Received
    from tidings.messages.events import Event as Event
    from tidings.messages.events import Moment as Moment
    from tidings.messages.events import command as command
    from tidings.messages.events import event as event
    from tidings.messages.events import upcaster as upcaster
    from tidings.outbox.log import StateContext as StateContext
    from tidings.outcomes import DeadLetter as DeadLetter
    from tidings.outcomes import Done as Done
    from tidings.outcomes import Drop as Drop
    from tidings.outcomes import Outcome as Outcome
    from tidings.outcomes import Retry as Retry
    from tidings.service import Service as Service
    from tidings.settings import Settings as Settings

# Imported lazily, because importing gRPC and FastAPI is slow and many programs need only a part of the package.
_MODULES = {
    "Context": "context",
    "DeadLetter": "outcomes",
    "Done": "outcomes",
    "Drop": "outcomes",
    "Event": "messages.events",
    "Handlers": "consume.handlers",
    "Moment": "messages.events",
    "Outcome": "outcomes",
    "PERSONAL": "marks",
    "Received": "messages.envelope",
    "Rejected": "errors",
    "Retry": "outcomes",
    "RetryPolicy": "consume.policy",
    "SUBJECT": "marks",
    "Service": "service",
    "Settings": "settings",
    "StateContext": "outbox.log",
    "TidingsError": "errors",
    "command": "messages.events",
    "event": "messages.events",
    "upcaster": "messages.events",
}
__all__ = sorted(_MODULES)  # noqa: PLE0605 - computed, to not repeat the names


def __getattr__(name: str) -> Any:
    """Import a public name from its module."""
    if name not in _MODULES:
        raise AttributeError(f"module 'tidings' has no attribute {name!r}")
    return getattr(importlib.import_module(f"tidings.{_MODULES[name]}"), name)
