"""Response types of the API, for its OpenAPI description (docs/reference/archive-api.json), and statuses of errors."""

from http import HTTPStatus
from typing import Any, Literal, NotRequired

from typing_extensions import TypedDict

from tidings_archive.audit_log import AuditEntry
from tidings_archive.deadletters import UnknownDeadLetter
from tidings_archive.domain.deadletter import DeadLetterError, State
from tidings_archive.domain.selection import SelectionError
from tidings_archive.forgetting import NoKeys
from tidings_archive.replays import ReplayError, UnknownReplay
from tidings_archive.suspensions import NotConfigured, SuspensionError, Unavailable, UnknownSubscription

ERRORS: dict[type[Exception], HTTPStatus] = {
    UnknownDeadLetter: HTTPStatus.NOT_FOUND,
    UnknownReplay: HTTPStatus.NOT_FOUND,
    UnknownSubscription: HTTPStatus.NOT_FOUND,
    NotConfigured: HTTPStatus.NOT_FOUND,
    DeadLetterError: HTTPStatus.CONFLICT,
    NoKeys: HTTPStatus.CONFLICT,
    SuspensionError: HTTPStatus.CONFLICT,
    ReplayError: HTTPStatus.UNPROCESSABLE_ENTITY,
    SelectionError: HTTPStatus.UNPROCESSABLE_ENTITY,
    Unavailable: HTTPStatus.SERVICE_UNAVAILABLE,
}


class EventPage(TypedDict):
    """Events, newest first: their attributes and data, with `topic` and `receivedAt`. `next` is a cursor."""

    events: list[dict[str, Any]]
    next: int | None


class Versions(TypedDict):
    """One event in all its versions."""

    events: list[dict[str, Any]]


class LatestReplay(TypedDict):
    """The latest replay of a dead letter."""

    replayId: str
    sentAt: str
    outcome: Literal["handled", "failed", "unread", "dropped", "unconfirmed"]
    reason: str | None


class DeadLetter(TypedDict):
    """An event that a subscription could not handle."""

    number: int
    state: State
    app: str
    subscription: str | None
    eventId: str
    type: str
    version: int
    subject: str
    correlationId: str
    topic: str
    reason: str
    error: str
    attempts: int
    failures: int
    firstAttempt: str | None
    lastAttempt: str | None
    receivedAt: str
    replay: LatestReplay | None


class DeadLetterDetails(DeadLetter):
    """A dead letter with its event and its audit log."""

    event: dict[str, Any]
    audit: list[AuditEntry]


class DeadLetterPage(TypedDict):
    """Dead letters, newest first. `next` is a cursor; a page with a next one may have fewer than `limit`, or none."""

    deadLetters: list[DeadLetter]
    next: int | None


class Outcomes(TypedDict):
    """Counts of a batch of replayed dead letters."""

    sent: int
    handled: int
    failed: int
    unread: int
    dropped: int
    unconfirmed: int


class Replay(TypedDict):
    """A replay of archived events or of dead letters, with the counts that its consumers confirmed.

    `consumer` is * for the dead letters of every app. `letterReason` is the part of a reason that dead letters had to
    contain.
    """

    replayId: str
    kind: Literal["events", "deadLetters"]
    state: Literal["running", "completed", "cancelled", "failed"]
    reason: str | None
    consumer: str
    subscription: str
    types: list[str]
    letterReason: str | None
    since: str | None
    until: str | None
    correlationId: str | None
    ratePerSecond: float
    matched: int
    sent: int
    skipped: int
    handled: int
    failed: int
    unread: int
    dropped: int
    unconfirmed: int
    requestedAt: str
    requestedBy: str
    endedAt: str | None
    skippedEvents: NotRequired[list[str]]


class Replays(TypedDict):
    """The latest replays."""

    replays: list[Replay]


class Notified(TypedDict):
    """The result of a notice: `false` if the same matter was notified within the silence period."""

    published: bool


class SentNotice(TypedDict):
    """A matter that owners were notified of.

    `webhook` is the state of the last notice's message: none if no webhook was configured, pending while attempts
    follow, failed after the last one. `webhookError` says why the last attempt failed.
    """

    type: str
    title: str
    text: str
    owners: str
    times: int
    firstAt: str
    sentAt: str
    webhook: Literal["none", "pending", "sent", "failed"]
    webhookError: str | None


class Notices(TypedDict):
    """The latest notices."""

    notices: list[SentNotice]
