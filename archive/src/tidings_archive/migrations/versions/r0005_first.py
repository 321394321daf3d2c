"""Tables of the first release, and the full-text search."""

from typing import Any

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0005"
down_revision = None

_NUMBER = sa.BigInteger().with_variant(sa.Integer, "sqlite")
_HASH: Any = {"postgresql_using": "hash"}


def upgrade() -> None:
    """Create the tables and the index of the words."""
    op.create_table(
        "archive_events",
        sa.Column("seq", _NUMBER, primary_key=True, comment="the order of arrival"),
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
    )
    op.create_index("archive_events_id", "archive_events", ["id"], **_HASH)
    op.create_index("archive_events_type", "archive_events", ["type", "version", "seq"])
    op.create_index("archive_events_source", "archive_events", ["source", "seq"])
    op.create_index("archive_events_topic", "archive_events", ["topic", "seq"])
    op.create_index("archive_events_correlation", "archive_events", ["correlation_id"], **_HASH)
    op.create_index("archive_events_subject", "archive_events", ["subject"], **_HASH)
    op.create_index("archive_events_happened", "archive_events", ["happened", "seq"])
    op.create_index("archive_events_received", "archive_events", ["received"])
    op.create_table(
        "archive_dead_letters",
        sa.Column("seq", _NUMBER, primary_key=True),
        sa.Column(
            "key", sa.Text, nullable=False, unique=True, comment="SHA-256 of app, subscription, source, id, version"
        ),
        sa.Column("app", sa.Text, nullable=False, comment="whose dead letter it is"),
        sa.Column(
            "subscription", sa.Text, nullable=False, comment="which of its subscriptions failed; empty if unknown"
        ),
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
    )
    op.create_index("archive_dead_letters_state", "archive_dead_letters", ["state", "seq"])
    op.create_index("archive_dead_letters_event", "archive_dead_letters", ["id"], **_HASH)
    op.create_index("archive_dead_letters_app", "archive_dead_letters", ["app", "state", "seq"])
    op.create_table(
        "archive_failures",
        sa.Column(
            "key", sa.Text, primary_key=True, comment="SHA-256 of a failure: a second delivery of it is no other"
        ),
    )
    op.create_table(
        "archive_letter_replays",
        sa.Column("id", sa.Text, primary_key=True, comment="the replay's id, which the event carries"),
        sa.Column("letter", _NUMBER, sa.ForeignKey("archive_dead_letters.seq"), nullable=False, index=True),
        sa.Column("batch", sa.Text, nullable=False, index=True, comment="what it was part of, such as an EventReplay"),
        sa.Column("subscription", sa.Text, nullable=False),
        sa.Column("sent", sa.Float, nullable=False, comment="seconds since 1970"),
        sa.Column(
            "outcome", sa.Text, nullable=False, server_default="", comment="as the consumer confirmed; empty: not"
        ),
        sa.Column("reason", sa.Text, nullable=False, server_default=""),
    )
    op.create_table(
        "archive_replays",
        sa.Column("seq", _NUMBER, primary_key=True),
        sa.Column("id", sa.Text, nullable=False, unique=True),
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
        sa.Column("reached", _NUMBER, nullable=False, server_default="0", comment="seq of the last event looked at"),
        sa.Column(
            "closes", _NUMBER, comment="seq of the last event that is part of it; null while more may belong to it"
        ),
        sa.Column("requested", sa.Float, nullable=False, comment="seconds since 1970"),
        sa.Column("requested_by", sa.Text, nullable=False),
        sa.Column("ended", sa.Float, comment="seconds since 1970"),
        sa.Column("kind", sa.Text, nullable=False, server_default="events", comment="events or deadLetters"),
    )
    op.create_table(
        "archive_audit",
        sa.Column("seq", _NUMBER, primary_key=True),
        sa.Column("at", sa.Float, nullable=False, comment="seconds since 1970"),
        sa.Column("who", sa.Text, nullable=False),
        sa.Column("action", sa.Text, nullable=False),
        sa.Column("target", sa.Text, nullable=False, comment="deadletter/17 or replay/<id>"),
        sa.Column("detail", sa.Text, nullable=False),
    )
    op.create_index("archive_audit_target", "archive_audit", ["target", "seq"])
    op.create_table(
        "archive_notices",
        sa.Column("seq", _NUMBER, primary_key=True),
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
        sa.Column(
            "error", sa.Text, nullable=False, comment="why the last call of the webhook failed; empty: it did not"
        ),
    )
    op.create_index("archive_notices_sent", "archive_notices", ["sent"])
    op.create_index("archive_notices_due", "archive_notices", ["due"])
    if op.get_bind().dialect.name == "sqlite":
        _create_fts5()
    else:
        op.create_index("archive_events_words", "archive_events", ["words"], postgresql_using="gin")


def _create_fts5() -> None:
    op.execute(
        "CREATE VIRTUAL TABLE archive_events_words USING fts5 (words, content='archive_events', content_rowid='seq', "
        "detail='none', columnsize=0, tokenize=\"ascii tokenchars '-'\")"
    )
    op.execute(
        "CREATE TRIGGER archive_events_words_added AFTER INSERT ON archive_events BEGIN "
        "INSERT INTO archive_events_words (rowid, words) VALUES (new.seq, new.words); END"
    )
    op.execute(
        "CREATE TRIGGER archive_events_words_deleted AFTER DELETE ON archive_events BEGIN "
        "INSERT INTO archive_events_words (archive_events_words, rowid, words) "
        "VALUES ('delete', old.seq, old.words); END"
    )
