"""The tables of the table strategy. They stand in the service's own database, beside its own tables."""

from __future__ import annotations

import sqlalchemy as sa

metadata = sa.MetaData()

_number = sa.BigInteger().with_variant(sa.Integer, "sqlite")  # SQLite numbers rows only in a column of type INTEGER
_vacuumed = {"autovacuum_vacuum_scale_factor": 0.01, "autovacuum_vacuum_threshold": 1000}  # rows come and go

inbox = sa.Table(
    "tidings_inbox",
    metadata,
    sa.Column("subscription", sa.Text, primary_key=True),
    sa.Column(
        "event", sa.Text, primary_key=True, comment="source and id of the event, as `Envelope.identity` has them"
    ),
    sa.Column("handled_at", sa.Float, nullable=False, index=True, comment="seconds since 1970"),
    sqlite_with_rowid=False,
)

lanes = sa.Table(
    "tidings_lanes",
    metadata,
    sa.Column("lane", _number, primary_key=True),
    sa.Column("instance", sa.Text, nullable=False, comment="the replica, the same after a restart"),
    sa.Column("run", sa.Text, nullable=False, comment="this run of it"),
    sa.Column("until", sa.Float, nullable=False, comment="the end of the lease, in seconds since 1970"),
    sqlite_autoincrement=True,  # a lane's number is never given again
)

outbox = sa.Table(
    "tidings_outbox",
    metadata,
    sa.Column("id", _number, primary_key=True),
    sa.Column("lane", _number, nullable=False),
    sa.Column("subject", sa.Text, nullable=False, comment="what the event is about, else its id: the key of order"),
    sa.Column("topic", sa.Text, nullable=False),
    sa.Column("event", sa.Text, nullable=False, comment="a CloudEvent as structured JSON"),
    sa.Column("written", sa.Float, nullable=False, comment="when it was committed, in seconds since 1970"),
    sa.Column("attempts", sa.Integer, nullable=False, server_default="0"),
    sa.Column("due", sa.Float, nullable=False, server_default="0", comment="not before, in seconds since 1970"),
    sa.Column("reason", sa.Text, nullable=False, server_default="", comment="of the last failure"),
    # SQLite's few lanes are all one process's own, and each index is pages more that every commit waits for.
    sa.Index("tidings_outbox_lane", "lane", "id").ddl_if(dialect="postgresql"),
    sa.Index("tidings_outbox_subject", "subject", "id"),
    postgresql_with=_vacuumed,
)

parked = sa.Table(
    "tidings_parked",
    metadata,
    sa.Column("id", _number, primary_key=True, autoincrement=False),
    sa.Column("subject", sa.Text, nullable=False),
    sa.Column("topic", sa.Text, nullable=False),
    sa.Column("event", sa.Text, nullable=False),
    sa.Column("written", sa.Float, nullable=False),
    sa.Column("attempts", sa.Integer, nullable=False),
    sa.Column("reason", sa.Text, nullable=False),
    sa.Column("parked_at", sa.Float, nullable=False, comment="seconds since 1970"),
)

scheduled = sa.Table(
    "tidings_scheduled",
    metadata,
    sa.Column("id", sa.Text, primary_key=True, comment="the message's id"),
    sa.Column("lane", _number, nullable=False),
    sa.Column("due", sa.Float, nullable=False, comment="seconds since 1970, by the clock of whoever holds the lane"),
    sa.Column("wait", sa.Float, nullable=False, comment="how many seconds that was away when it was asked for"),
    sa.Column("taken", sa.Boolean, nullable=False, server_default=sa.false(), comment="being handled"),
    sa.Column("event", sa.Text, nullable=False, comment="a CloudEvent as structured JSON"),
    sa.Index("tidings_scheduled_due", "lane", "taken", "due"),
    postgresql_with=_vacuumed,
)
