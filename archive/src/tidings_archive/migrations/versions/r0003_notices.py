"""Notices to owners."""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"


def upgrade() -> None:
    """Add the table."""
    op.create_table(
        "archive_notices",
        sa.Column("seq", sa.BigInteger().with_variant(sa.Integer, "sqlite"), primary_key=True),
        sa.Column("key", sa.Text, nullable=False, unique=True),
        sa.Column("type", sa.Text, nullable=False),
        sa.Column("title", sa.Text, nullable=False),
        sa.Column("text", sa.Text, nullable=False),
        sa.Column("owners", sa.Text, nullable=False),
        sa.Column("first", sa.Float, nullable=False),
        sa.Column("sent", sa.Float, nullable=False),
        sa.Column("times", sa.Integer, nullable=False),
        sa.Column("due", sa.Float),
        sa.Column("attempts", sa.Integer, nullable=False),
        sa.Column("error", sa.Text, nullable=False),
    )
    op.create_index("archive_notices_sent", "archive_notices", ["sent"])
    op.create_index("archive_notices_due", "archive_notices", ["due"])
