"""Alembic migrations of the archive's tables, on SQLite and PostgreSQL.

Add one with `alembic -c archive/alembic.ini revision --autogenerate -m "…"`. Revisions are kept from the first release
on, and a released one is never changed.
The tables of the SDK (outbox, inbox) are not part of it: every service has them, and the SDK creates them.
"""

import sqlalchemy as sa
from alembic import command
from alembic.config import Config

from tidings_archive.tables import metadata


def upgrade(connection: sa.Connection, revision: str = "head") -> None:
    """Bring the archive's tables to a revision. The caller holds the lock and commits."""
    command.upgrade(config(connection), revision)


def config(connection: sa.Connection) -> Config:
    """Return Alembic's configuration for an open connection."""
    made = Config()
    made.set_main_option("script_location", "tidings_archive:migrations")
    made.attributes["connection"] = connection
    return made


def is_compared(name: str | None, kind: str, _parents: object) -> bool:
    """Return whether Alembic compares something in the database with the models.

    A database may contain a service's SDK tables, too. The index of the words depends on the database.
    """
    return name != "archive_events_words" if kind == "index" else kind != "table" or name in metadata.tables
