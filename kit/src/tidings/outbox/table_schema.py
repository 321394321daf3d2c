"""Tables of the table strategy, in the service's own database next to its own tables."""

import sqlalchemy as sa

metadata = sa.MetaData()

_number = sa.BigInteger().with_variant(sa.Integer, "sqlite")  # SQLite autoincrements INTEGER columns only
_vacuumed = {"autovacuum_vacuum_scale_factor": 0.01, "autovacuum_vacuum_threshold": 1000}  # rows are short-lived

inbox = sa.Table(
    "tidings_inbox",
    metadata,
    sa.Column("subscription", sa.Text, primary_key=True),
    sa.Column("event", sa.Text, primary_key=True, comment="source and id of the event: `Envelope.identity`"),
    sa.Column("handled_at", sa.Float, nullable=False, index=True, comment="seconds since 1970"),
    sqlite_with_rowid=False,
)

lanes = sa.Table(
    "tidings_lanes",
    metadata,
    sa.Column("lane", _number, primary_key=True),
    sa.Column("instance", sa.Text, nullable=False, comment="the replica; stable across restarts"),
    sa.Column("run", sa.Text, nullable=False, comment="one run of the replica"),
    sa.Column("until", sa.Float, nullable=False, comment="end of the lease in seconds since 1970"),
    sqlite_autoincrement=True,  # lane numbers are never reused
)

outbox = sa.Table(
    "tidings_outbox",
    metadata,
    sa.Column("id", _number, primary_key=True),
    sa.Column("lane", _number, nullable=False),
    sa.Column("subject", sa.Text, nullable=False, comment="ordering key: the event's subject, else its id"),
    sa.Column("topic", sa.Text, nullable=False),
    sa.Column("event", sa.Text, nullable=False, comment="a CloudEvent as structured JSON"),
    sa.Column("written", sa.Float, nullable=False, comment="time of the commit in seconds since 1970"),
    sa.Column("attempts", sa.Integer, nullable=False, server_default="0"),
    sa.Column("due", sa.Float, nullable=False, server_default="0", comment="next attempt in seconds since 1970"),
    sa.Column("reason", sa.Text, nullable=False, server_default="", comment="reason of the last failure"),
    # SQLite has few lanes, all of one process, and each index adds pages to every commit.
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
    sa.Column("due", sa.Float, nullable=False, comment="seconds since 1970 by the clock of the lane's holder"),
    sa.Column("wait", sa.Float, nullable=False, comment="requested delay in seconds"),
    sa.Column("taken", sa.Boolean, nullable=False, server_default=sa.false(), comment="being handled"),
    sa.Column("event", sa.Text, nullable=False, comment="a CloudEvent as structured JSON"),
    sa.Index("tidings_scheduled_due", "lane", "taken", "due"),
    postgresql_with=_vacuumed,
)
