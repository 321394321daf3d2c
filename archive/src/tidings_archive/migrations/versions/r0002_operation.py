"""Tables and indexes for retention, bulk redrives and notices."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    """Add the tables and indexes."""
    op.create_index("archive_events_received", "archive_events", ["received"])
    op.create_index("archive_dead_letters_app", "archive_dead_letters", ["app", "state", "seq"])
    op.create_table(
        "archive_redrives",
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("request", sa.Text(), nullable=False, comment="the criteria, as JSON"),
        sa.Column("rate", sa.Float(), nullable=False, comment="dead letters per second"),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("through", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column("reached", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column("matched", sa.Integer(), nullable=False),
        sa.Column("sent", sa.Integer(), server_default="0", nullable=False),
        sa.Column("skipped", sa.Integer(), server_default="0", nullable=False),
        sa.Column("requested", sa.Float(), nullable=False, comment="seconds since 1970"),
        sa.Column("requested_by", sa.Text(), nullable=False),
        sa.Column("ended", sa.Float(), nullable=True, comment="seconds since 1970"),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_table(
        "archive_notices",
        sa.Column("key", sa.Text(), nullable=False, comment="SHA-256 of reason and subject"),
        sa.Column("sent", sa.Float(), nullable=False, comment="seconds since 1970"),
        sa.PrimaryKeyConstraint("key"),
    )
