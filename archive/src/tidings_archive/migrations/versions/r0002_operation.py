"""Indexes for retention, and for the dead letters of an app."""

from alembic import op

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    """Add the indexes."""
    op.create_index("archive_events_received", "archive_events", ["received"])
    op.create_index("archive_dead_letters_app", "archive_dead_letters", ["app", "state", "seq"])
