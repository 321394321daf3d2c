"""The archive's tables. A change needs a migration: see `tidings_archive.migrations`."""

from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql

metadata = sa.MetaData()

_number = sa.BigInteger().with_variant(sa.Integer, "sqlite")  # SQLite numbers rows only in a column of type INTEGER

_HASH: Any = {"postgresql_using": "hash"}  # a B-tree of PostgreSQL takes no value above 2,704 bytes

INDEXED = 500
"""Characters of a type, a source or a topic that are stored beside the event: a B-tree of PostgreSQL takes them."""

events = sa.Table(
    "archive_events",
    metadata,
    sa.Column("seq", _number, primary_key=True, comment="the order of arrival"),
    sa.Column("key", sa.Text, nullable=False, unique=True, comment="SHA-256 of source, id, version and topic"),
    sa.Column("id", sa.Text, nullable=False, comment="the event's id; the versions of one fact share it"),
    sa.Column("version", sa.Integer, nullable=False, comment="the major version; 0 where the event says none"),
    sa.Column("topic", sa.Text, nullable=False),
    sa.Column("type", sa.Text, nullable=False),
    sa.Column("source", sa.Text, nullable=False),
    sa.Column("subject", sa.Text, nullable=False),
    sa.Column("correlation_id", sa.Text, nullable=False),
    sa.Column("happened", sa.Float, nullable=False, comment="the event's time, in seconds since 1970"),
    sa.Column("received", sa.Float, nullable=False, comment="seconds since 1970"),
    sa.Column("body", sa.Text, nullable=False, comment="as text, for searching; to the byte unless `raw` is set"),
    sa.Column("raw", sa.LargeBinary, comment="as it was delivered, where that is no text that the database takes"),
    sa.Column(
        "words",
        sa.Text().with_variant(postgresql.TSVECTOR(), "postgresql"),
        nullable=False,
        server_default="",
        comment="for the full-text search: the different words, separated by spaces",
    ),
    sa.Index("archive_events_id", "id", **_HASH),
    sa.Index("archive_events_type", "type", "version", "seq"),
    sa.Index("archive_events_source", "source", "seq"),
    sa.Index("archive_events_topic", "topic", "seq"),
    sa.Index("archive_events_correlation", "correlation_id", **_HASH),
    sa.Index("archive_events_subject", "subject", **_HASH),
    sa.Index("archive_events_happened", "happened", "seq"),
    sa.Index("archive_events_received", "received"),
    # The migrations create the index of the words: a virtual table of FTS5 on SQLite, a GIN index on PostgreSQL.
)
READABLE = [column for column in events.c if column.name != "words"]
"""What is read of an event; its words are only searched."""

dead_letters = sa.Table(
    "archive_dead_letters",
    metadata,
    sa.Column("seq", _number, primary_key=True),
    sa.Column("key", sa.Text, nullable=False, unique=True, comment="SHA-256 of app, subscription, source, id, version"),
    sa.Column("app", sa.Text, nullable=False, comment="whose dead letter it is"),
    sa.Column("subscription", sa.Text, nullable=False, comment="which of its subscriptions failed; empty if unknown"),
    sa.Column("id", sa.Text, nullable=False, comment="the id of the event that failed"),
    sa.Column("version", sa.Integer, nullable=False),
    sa.Column("type", sa.Text, nullable=False),
    sa.Column("source", sa.Text, nullable=False),
    sa.Column("subject", sa.Text, nullable=False),
    sa.Column("correlation_id", sa.Text, nullable=False),
    sa.Column("topic", sa.Text, nullable=False, comment="where the event was read when it failed"),
    sa.Column("reason", sa.Text, nullable=False),
    sa.Column("error", sa.Text, nullable=False, comment="the exception's class"),
    sa.Column("attempts", sa.Integer, nullable=False),
    sa.Column("first", sa.Text, nullable=False, comment="first attempt"),
    sa.Column("last", sa.Text, nullable=False, comment="last attempt"),
    sa.Column("failures", sa.Integer, nullable=False, comment="how often it became a dead letter"),
    sa.Column("state", sa.Text, nullable=False),
    sa.Column("replay_id", sa.Text, nullable=False, server_default="", comment="its latest replay; empty: none"),
    sa.Column("received", sa.Float, nullable=False, comment="seconds since 1970"),
    sa.Column("body", sa.Text, nullable=False, comment="as text; to the byte unless `raw` is set"),
    sa.Column("raw", sa.LargeBinary, comment="as it was delivered, where that is no text that the database takes"),
    sa.Index("archive_dead_letters_state", "state", "seq"),
    sa.Index("archive_dead_letters_event", "id", **_HASH),
    sa.Index("archive_dead_letters_app", "app", "state", "seq"),
)

failures = sa.Table(
    "archive_failures",
    metadata,
    sa.Column("key", sa.Text, primary_key=True, comment="SHA-256 of a failure: a second delivery of it is no other"),
)

letter_replays = sa.Table(
    "archive_letter_replays",
    metadata,
    sa.Column("id", sa.Text, primary_key=True, comment="the replay's id, which the event carries"),
    sa.Column("letter", _number, sa.ForeignKey(dead_letters.c.seq), nullable=False, index=True),
    sa.Column("batch", sa.Text, nullable=False, index=True, comment="what it was part of, such as an EventReplay"),
    sa.Column("subscription", sa.Text, nullable=False),
    sa.Column("sent", sa.Float, nullable=False, comment="seconds since 1970"),
    sa.Column("outcome", sa.Text, nullable=False, server_default="", comment="as the consumer confirmed; empty: not"),
    sa.Column("reason", sa.Text, nullable=False, server_default=""),
)

replays = sa.Table(
    "archive_replays",
    metadata,
    sa.Column("seq", _number, primary_key=True),
    sa.Column("id", sa.Text, nullable=False, unique=True),
    sa.Column("kind", sa.Text, nullable=False, server_default="events", comment="events or deadLetters"),
    sa.Column("consumer", sa.Text, nullable=False),
    sa.Column("subscription", sa.Text, nullable=False, comment="* is whichever subscription reads the type"),
    sa.Column("request", sa.Text, nullable=False, comment="the command archive.replayEvents, as JSON"),
    sa.Column("rate", sa.Float, nullable=False, comment="events a second"),
    sa.Column("state", sa.Text, nullable=False),
    sa.Column("reason", sa.Text, nullable=False, server_default="", comment="why it failed"),
    sa.Column("matched", sa.Integer, nullable=False, comment="how many events there were when it was asked for"),
    sa.Column("sent", sa.Integer, nullable=False, server_default="0"),
    sa.Column("skipped", sa.Integer, nullable=False, server_default="0", comment="could not be sent"),
    sa.Column("handled", sa.Integer, nullable=False, server_default="0", comment="confirmed by the consumer"),
    sa.Column("failed", sa.Integer, nullable=False, server_default="0"),
    sa.Column("unread", sa.Integer, nullable=False, server_default="0"),
    sa.Column("dropped", sa.Integer, nullable=False, server_default="0"),
    sa.Column("reached", _number, nullable=False, server_default="0", comment="seq of the last event looked at"),
    sa.Column("closes", _number, comment="seq of the last event that is part of it; null while more may belong to it"),
    sa.Column("requested", sa.Float, nullable=False, comment="seconds since 1970"),
    sa.Column("requested_by", sa.Text, nullable=False),
    sa.Column("ended", sa.Float, comment="seconds since 1970"),
)

audit = sa.Table(
    "archive_audit",
    metadata,
    sa.Column("seq", _number, primary_key=True),
    sa.Column("at", sa.Float, nullable=False, comment="seconds since 1970"),
    sa.Column("who", sa.Text, nullable=False),
    sa.Column("action", sa.Text, nullable=False),
    sa.Column("target", sa.Text, nullable=False, comment="deadletter/17 or replay/<id>"),
    sa.Column("detail", sa.Text, nullable=False),
    sa.Index("archive_audit_target", "target", "seq"),
)

notices = sa.Table(
    "archive_notices",
    metadata,
    sa.Column("seq", _number, primary_key=True),
    sa.Column("key", sa.Text, nullable=False, unique=True, comment="SHA-256 of the matter"),
    sa.Column("type", sa.Text, nullable=False),
    sa.Column("title", sa.Text, nullable=False),
    sa.Column("text", sa.Text, nullable=False),
    sa.Column("owners", sa.Text, nullable=False, comment="teams and contacts"),
    sa.Column("first", sa.Float, nullable=False, comment="first notice, in seconds since 1970"),
    sa.Column("sent", sa.Float, nullable=False, comment="last notice, in seconds since 1970"),
    sa.Column("times", sa.Integer, nullable=False, comment="how often it was notified"),
    sa.Column("due", sa.Float, comment="next attempt to call the webhook; null: none"),
    sa.Column("attempts", sa.Integer, nullable=False, comment="calls of the webhook for the last notice"),
    sa.Column("error", sa.Text, nullable=False, comment="why the last call of the webhook failed; empty: it did not"),
    sa.Index("archive_notices_sent", "sent"),
    sa.Index("archive_notices_due", "due"),
)
