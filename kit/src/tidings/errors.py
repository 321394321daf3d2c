"""Every error the kit raises, in one hierarchy: catch `TidingsError` to catch them all."""

from __future__ import annotations


class TidingsError(Exception):
    """Base of every error that the kit raises on purpose."""


class ProcessEnd(BaseException):
    """Ends the process: no outcome of an event may be made of it. Tests raise it where a process dies."""


class BackgroundFailure(TidingsError):
    """Work in the background raised `SystemExit` or `KeyboardInterrupt`, which in a task would end the process."""


class DefinitionError(TidingsError):
    """An event, a handler or a service is declared wrongly: raised while the program starts, not while it runs."""


class MalformedEvent(TidingsError):
    """What arrived is not a CloudEvents 1.0 envelope around JSON, or its data does not fit the handler's type."""


class EventTooLarge(TidingsError):
    """An event is larger than the broker would carry; raised before anything is stored or sent."""


class Rejected(TidingsError):
    """Raise it in a handler to dead-letter the event at once: trying again would change nothing."""


class UnknownOutcome(TidingsError):
    """A handler returned something that is no outcome, such as a `(body, 500)` tuple."""


class SidecarError(TidingsError):
    """The Dapr sidecar, or what stands behind it, could not do what was asked."""


class SidecarUnavailable(SidecarError):
    """The sidecar, broker or store did not answer in time or refused the connection: trying again may help.

    Attributes:
        after: Seconds after which it may.

    """

    after: float = 1.0


class StateRefused(SidecarError):
    """The state store or database will not take this key or value, and trying again will not help."""


class KeyTaken(StateRefused):
    """A row with that unique key is stored already. A unit of work that begins anew may find it and change its mind."""


class StatementTimeout(SidecarUnavailable):
    """The database broke off a statement that took too long: it waited for a lock, or has too much to do."""


class PublishRefused(SidecarError):
    """The sidecar will not publish this: forbidden topic, no stream, too large. Trying again will not help."""


class TopicMissing(PublishRefused):
    """The broker has no such topic, such as a missing JetStream stream. Once somebody creates it, events may go."""


class StateConflict(SidecarError):
    """Somebody else wrote the document first: its etag is no longer the one that was read."""


class OneDocument(DefinitionError):
    """A unit of work saved two documents. See docs/decisions/0003-one-document-per-unit-of-work.md."""
