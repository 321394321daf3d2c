"""The archive's tables."""

from __future__ import annotations

import sqlalchemy as sa

metadata = sa.MetaData()

_number = sa.BigInteger().with_variant(sa.Integer, "sqlite")  # SQLite numbers rows only in a column of type INTEGER

events = sa.Table(
    "archive_events",
    metadata,
    sa.Column("seq", _number, primary_key=True, comment="the order of arrival"),
    sa.Column("id", sa.Text, nullable=False, comment="the event's id; the versions of one fact share it"),
    sa.Column("version", sa.Integer, nullable=False, comment="the major version; 0 where the event says none"),
    sa.Column("topic", sa.Text, nullable=False),
    sa.Column("type", sa.Text, nullable=False),
    sa.Column("source", sa.Text, nullable=False),
    sa.Column("subject", sa.Text, nullable=False),
    sa.Column("correlation_id", sa.Text, nullable=False),
    sa.Column("happened", sa.Float, nullable=False, comment="the event's time, in seconds since 1970"),
    sa.Column("received", sa.Float, nullable=False, comment="seconds since 1970"),
    sa.Column("body", sa.Text, nullable=False, comment="as it was delivered"),
    sa.UniqueConstraint("id", "version", "topic"),
    sa.Index("archive_events_type", "type", "version", "seq"),
    sa.Index("archive_events_correlation", "correlation_id", "seq"),
    sa.Index("archive_events_subject", "subject", "seq"),
    sa.Index("archive_events_happened", "happened"),
)

dead_letters = sa.Table(
    "archive_dead_letters",
    metadata,
    sa.Column("seq", _number, primary_key=True),
    sa.Column("app", sa.Text, nullable=False, comment="whose dead letter it is"),
    sa.Column("subscription", sa.Text, nullable=False, comment="which of its subscriptions failed; empty if unknown"),
    sa.Column("id", sa.Text, nullable=False, comment="the event's id"),
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
    sa.Column("received", sa.Float, nullable=False, comment="seconds since 1970"),
    sa.Column("body", sa.Text, nullable=False, comment="as it was delivered"),
    sa.UniqueConstraint("app", "subscription", "id", "version"),
    sa.Index("archive_dead_letters_state", "state", "seq"),
    sa.Index("archive_dead_letters_event", "id"),
)

replays = sa.Table(
    "archive_replays",
    metadata,
    sa.Column("id", sa.Text, primary_key=True),
    sa.Column("consumer", sa.Text, nullable=False),
    sa.Column("subscription", sa.Text, nullable=False, comment="* is whichever subscription reads the type"),
    sa.Column("types", sa.JSON, nullable=False),
    sa.Column("since", sa.Text, nullable=False),
    sa.Column("until", sa.Text, nullable=False),
    sa.Column("correlation_id", sa.Text, nullable=False),
    sa.Column("rate", sa.Float, nullable=False, comment="events a second"),
    sa.Column("state", sa.Text, nullable=False),
    sa.Column("reason", sa.Text, nullable=False, server_default=""),
    sa.Column("matched", sa.Integer, nullable=False, comment="how many events there were when it was asked for"),
    sa.Column("sent", sa.Integer, nullable=False, server_default="0"),
    sa.Column("reached", _number, nullable=False, server_default="0", comment="seq of the last event sent"),
    sa.Column("closes", sa.Float, nullable=False, comment="what arrives later is not part of it; seconds since 1970"),
    sa.Column("requested", sa.Float, nullable=False, comment="seconds since 1970"),
    sa.Column("requested_by", sa.Text, nullable=False),
    sa.Column("ended", sa.Float, comment="seconds since 1970"),
)

replay_filters = sa.Table(
    "archive_replay_filters",
    metadata,
    sa.Column("id", sa.Text, primary_key=True, comment="the replay's; without a row it has none"),
    sa.Column("ids", sa.JSON, nullable=False),
    sa.Column("match", sa.JSON, nullable=False),
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
