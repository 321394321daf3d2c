"""Tables of the first release. Databases from before Alembic already have them."""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None


def upgrade() -> None:
    """Create the tables that are missing."""
    op.create_table(
        "archive_audit",
        sa.Column("seq", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column("at", sa.Float(), nullable=False, comment="seconds since 1970"),
        sa.Column("who", sa.Text(), nullable=False),
        sa.Column("action", sa.Text(), nullable=False),
        sa.Column("target", sa.Text(), nullable=False, comment="deadletter/17 or replay/<id>"),
        sa.Column("detail", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("seq"),
        if_not_exists=True,
    )
    op.create_index("archive_audit_target", "archive_audit", ["target", "seq"], unique=False, if_not_exists=True)
    op.create_table(
        "archive_dead_letters",
        sa.Column("seq", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column("key", sa.Text(), nullable=False, comment="SHA-256 of app, subscription, source, id, version"),
        sa.Column("app", sa.Text(), nullable=False, comment="whose dead letter it is"),
        sa.Column(
            "subscription", sa.Text(), nullable=False, comment="which of its subscriptions failed; empty if unknown"
        ),
        sa.Column("id", sa.Text(), nullable=False, comment="the id of the event that failed"),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.Column("type", sa.Text(), nullable=False),
        sa.Column("source", sa.Text(), nullable=False),
        sa.Column("subject", sa.Text(), nullable=False),
        sa.Column("correlation_id", sa.Text(), nullable=False),
        sa.Column("topic", sa.Text(), nullable=False, comment="where the event was read when it failed"),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("error", sa.Text(), nullable=False, comment="the exception's class"),
        sa.Column("attempts", sa.Integer(), nullable=False),
        sa.Column("first", sa.Text(), nullable=False, comment="first attempt"),
        sa.Column("last", sa.Text(), nullable=False, comment="last attempt"),
        sa.Column("failures", sa.Integer(), nullable=False, comment="how often it became a dead letter"),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("replay_id", sa.Text(), server_default="", nullable=False, comment="its latest replay; empty: none"),
        sa.Column("received", sa.Float(), nullable=False, comment="seconds since 1970"),
        sa.Column("body", sa.Text(), nullable=False, comment="as text; to the byte unless `raw` is set"),
        sa.Column(
            "raw",
            sa.LargeBinary(),
            nullable=True,
            comment="as it was delivered, where that is no text that the database takes",
        ),
        sa.PrimaryKeyConstraint("seq"),
        sa.UniqueConstraint("key"),
        if_not_exists=True,
    )
    op.create_index(
        "archive_dead_letters_event",
        "archive_dead_letters",
        ["id"],
        unique=False,
        postgresql_using="hash",
        if_not_exists=True,
    )
    op.create_index(
        "archive_dead_letters_state", "archive_dead_letters", ["state", "seq"], unique=False, if_not_exists=True
    )
    op.create_table(
        "archive_events",
        sa.Column(
            "seq", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False, comment="the order of arrival"
        ),
        sa.Column("key", sa.Text(), nullable=False, comment="SHA-256 of source, id, version and topic"),
        sa.Column("id", sa.Text(), nullable=False, comment="the event's id; the versions of one fact share it"),
        sa.Column("version", sa.Integer(), nullable=False, comment="the major version; 0 where the event says none"),
        sa.Column("topic", sa.Text(), nullable=False),
        sa.Column("type", sa.Text(), nullable=False),
        sa.Column("source", sa.Text(), nullable=False),
        sa.Column("subject", sa.Text(), nullable=False),
        sa.Column("correlation_id", sa.Text(), nullable=False),
        sa.Column("happened", sa.Float(), nullable=False, comment="the event's time, in seconds since 1970"),
        sa.Column("received", sa.Float(), nullable=False, comment="seconds since 1970"),
        sa.Column("body", sa.Text(), nullable=False, comment="as text, for searching; to the byte unless `raw` is set"),
        sa.Column(
            "raw",
            sa.LargeBinary(),
            nullable=True,
            comment="as it was delivered, where that is no text that the database takes",
        ),
        sa.PrimaryKeyConstraint("seq"),
        sa.UniqueConstraint("key"),
        if_not_exists=True,
    )
    op.create_index(
        "archive_events_correlation",
        "archive_events",
        ["correlation_id"],
        unique=False,
        postgresql_using="hash",
        if_not_exists=True,
    )
    op.create_index("archive_events_happened", "archive_events", ["happened"], unique=False, if_not_exists=True)
    op.create_index(
        "archive_events_id", "archive_events", ["id"], unique=False, postgresql_using="hash", if_not_exists=True
    )
    op.create_index(
        "archive_events_subject",
        "archive_events",
        ["subject"],
        unique=False,
        postgresql_using="hash",
        if_not_exists=True,
    )
    op.create_index(
        "archive_events_type", "archive_events", ["type"], unique=False, postgresql_using="hash", if_not_exists=True
    )
    op.create_table(
        "archive_failures",
        sa.Column(
            "key", sa.Text(), nullable=False, comment="SHA-256 of a failure: a second delivery of it is no other"
        ),
        sa.PrimaryKeyConstraint("key"),
        if_not_exists=True,
    )
    op.create_table(
        "archive_replays",
        sa.Column("seq", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("consumer", sa.Text(), nullable=False),
        sa.Column("subscription", sa.Text(), nullable=False, comment="* is whichever subscription reads the type"),
        sa.Column("request", sa.Text(), nullable=False, comment="the command archive.replayEvents, as JSON"),
        sa.Column("rate", sa.Float(), nullable=False, comment="events a second"),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("reason", sa.Text(), server_default="", nullable=False, comment="why it failed"),
        sa.Column("matched", sa.Integer(), nullable=False, comment="how many events there were when it was asked for"),
        sa.Column("sent", sa.Integer(), server_default="0", nullable=False),
        sa.Column("skipped", sa.Integer(), server_default="0", nullable=False, comment="could not be sent"),
        sa.Column("handled", sa.Integer(), server_default="0", nullable=False, comment="confirmed by the consumer"),
        sa.Column("failed", sa.Integer(), server_default="0", nullable=False),
        sa.Column("unread", sa.Integer(), server_default="0", nullable=False),
        sa.Column("dropped", sa.Integer(), server_default="0", nullable=False),
        sa.Column(
            "reached",
            sa.BigInteger().with_variant(sa.Integer(), "sqlite"),
            server_default="0",
            nullable=False,
            comment="seq of the last event looked at",
        ),
        sa.Column(
            "closes",
            sa.BigInteger().with_variant(sa.Integer(), "sqlite"),
            nullable=True,
            comment="seq of the last event that is part of it; null while more may belong to it",
        ),
        sa.Column("requested", sa.Float(), nullable=False, comment="seconds since 1970"),
        sa.Column("requested_by", sa.Text(), nullable=False),
        sa.Column("ended", sa.Float(), nullable=True, comment="seconds since 1970"),
        sa.PrimaryKeyConstraint("seq"),
        sa.UniqueConstraint("id"),
        if_not_exists=True,
    )
    op.create_table(
        "archive_letter_replays",
        sa.Column("id", sa.Text(), nullable=False, comment="the replay's id, which the event carries"),
        sa.Column("letter", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column("batch", sa.Text(), nullable=False, comment="what it was part of, such as an EventReplay"),
        sa.Column("subscription", sa.Text(), nullable=False),
        sa.Column("sent", sa.Float(), nullable=False, comment="seconds since 1970"),
        sa.Column(
            "outcome", sa.Text(), server_default="", nullable=False, comment="as the consumer confirmed; empty: not"
        ),
        sa.Column("reason", sa.Text(), server_default="", nullable=False),
        sa.ForeignKeyConstraint(
            ["letter"],
            ["archive_dead_letters.seq"],
        ),
        sa.PrimaryKeyConstraint("id"),
        if_not_exists=True,
    )
    op.create_index(
        op.f("ix_archive_letter_replays_batch"), "archive_letter_replays", ["batch"], unique=False, if_not_exists=True
    )
    op.create_index(
        op.f("ix_archive_letter_replays_letter"), "archive_letter_replays", ["letter"], unique=False, if_not_exists=True
    )
