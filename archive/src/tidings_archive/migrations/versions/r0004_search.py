"""Full-text search, and indexes in the order of the pages: type, source and topic with `seq`."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

from tidings_archive.fulltext import words_of

revision = "0004"
down_revision = "0003"

_LONGEST, _BATCH = 500, 1000
_events = sa.table(
    "archive_events",
    *(sa.column(name) for name in ("seq", "type", "source", "subject", "correlation_id", "topic", "body", "words")),
)


def upgrade() -> None:
    """Add the words of each event, and index them."""
    op.add_column(
        "archive_events",
        sa.Column(
            "words",
            sa.Text().with_variant(postgresql.TSVECTOR(), "postgresql"),
            nullable=False,
            server_default="",
            comment="for the full-text search: the different words, separated by spaces",
        ),
    )
    connection = op.get_bind()
    if connection.dialect.name == "sqlite":
        _create_fts5()
    _fill(connection)
    if connection.dialect.name == "sqlite":
        op.execute("INSERT INTO archive_events_words (archive_events_words) VALUES ('rebuild')")
    else:
        op.create_index("archive_events_words", "archive_events", ["words"], postgresql_using="gin")
    op.drop_index("archive_events_type", "archive_events")
    op.drop_index("archive_events_happened", "archive_events")
    op.create_index("archive_events_type", "archive_events", ["type", "version", "seq"])
    op.create_index("archive_events_source", "archive_events", ["source", "seq"])
    op.create_index("archive_events_topic", "archive_events", ["topic", "seq"])
    op.create_index("archive_events_happened", "archive_events", ["happened", "seq"])


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


def _fill(connection: sa.Connection) -> None:
    """Write the words of existing events; shorten what PostgreSQL's B-trees could not hold."""
    reached = 0
    seq, columns = _events.c.seq, _events.c
    while rows := connection.execute(
        sa.select(_events).with_only_columns(
            seq, columns.type, columns.source, columns.subject, columns.correlation_id, columns.topic, columns.body
        ).where(seq > reached).order_by(seq).limit(_BATCH)
    ).mappings().all():  # fmt: skip
        for row in rows:
            attributes = (row["type"], row["source"], row["subject"], row["correlation_id"], row["topic"])
            changed = {name: row[name][:_LONGEST] for name in ("type", "source", "topic")}
            words: sa.ColumnElement[str] = sa.literal(words_of(row["body"], *attributes), sa.Text)
            if connection.dialect.name == "postgresql":
                words = sa.cast(words, postgresql.TSVECTOR)
            connection.execute(sa.update(_events).where(seq == row["seq"]).values(**changed, words=words))
        reached = rows[-1]["seq"]
