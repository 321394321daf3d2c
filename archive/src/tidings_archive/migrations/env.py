"""Alembic's environment: it runs in the connection and the transaction of the caller."""

import sqlalchemy as sa
from alembic import context

from tidings_archive.migrations import is_compared
from tidings_archive.tables import metadata

VERSION_TABLE = "archive_revision"

# Without a caller, Alembic's command line compares with a database in memory.
connection = context.config.attributes.get("connection") or sa.create_engine("sqlite://").connect()
context.configure(
    connection=connection,
    target_metadata=metadata,
    version_table=VERSION_TABLE,
    include_name=is_compared,
)
with context.begin_transaction():
    context.run_migrations()
