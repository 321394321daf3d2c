"""Redrives: replays of dead letters."""

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"


def upgrade() -> None:
    """Add the kind of a replay."""
    kind = sa.Column("kind", sa.Text, nullable=False, server_default="events", comment="events or deadLetters")
    op.add_column("archive_replays", kind)
