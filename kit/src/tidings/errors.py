"""Exceptions of the SDK, in one hierarchy below `TidingsError`."""


class TidingsError(Exception):
    """Base of all exceptions that the SDK raises deliberately."""


class ProcessEnd(BaseException):
    """Ends the process and never becomes an outcome of an event. Tests raise it to simulate a crash."""


class BackgroundFailure(TidingsError):
    """Background work raised `SystemExit` or `KeyboardInterrupt`, which would end the process if raised in a task."""


class DefinitionError(TidingsError):
    """An event, handler or service is declared incorrectly. Raised at startup, not while handling events."""


class MalformedEvent(TidingsError):
    """The bytes are not a CloudEvents 1.0 envelope with JSON data, or the data does not match the handler's type."""


class EventTooLarge(TidingsError):
    """An event exceeds the maximum size. Raised before anything is stored or published."""


class Rejected(TidingsError):
    """Raise it in a handler to dead-letter the event immediately, because retrying would not help."""


class NotFound(TidingsError):
    """A unit of work requires an aggregate that does not exist. The response to a request is 404."""


class UnknownOutcome(TidingsError):
    """A handler returned something other than an outcome, such as a `(body, 500)` tuple."""


class SidecarError(TidingsError):
    """The Dapr sidecar, or the broker or store behind it, could not complete a call."""


class SidecarUnavailable(SidecarError):
    """The sidecar, broker or store did not answer in time or refused the connection. The call may be retried.

    Attributes:
        after: Seconds to wait before retrying.

    """

    after: float = 1.0


class StateRefused(SidecarError):
    """The state store or database rejects this key or value permanently."""


class KeyTaken(StateRefused):
    """A row with this unique key exists. A unit of work that is retried can read it and decide differently."""


class StatementTimeout(SidecarUnavailable):
    """The database cancelled a statement that took too long, because of a lock or of its load."""


class PublishRefused(SidecarError):
    """The event cannot be published: forbidden topic, missing stream or too large. Retrying does not help."""


class TopicMissing(PublishRefused):
    """The topic does not exist on the broker (JetStream, Kafka). Retrying helps once it is created."""


class StateConflict(SidecarError):
    """Another unit of work wrote the document first: the etag has changed since it was read."""


class OneDocument(DefinitionError):
    """A unit of work saved two documents. See docs/decisions/0003-one-document-per-unit-of-work.md."""
