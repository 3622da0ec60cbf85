"""Adds indexes by age over all users, for retention."""

from alembic import op

revision = "0004"
down_revision = "0003"


def upgrade() -> None:
    """Create the indexes. Runs have such an index already, by status."""
    op.create_index("sessions_by_age", "sessions", ["updated_at"])
    op.create_index("states_by_age", "states", ["updated_at"])
    op.create_index("memories_by_age", "memories", ["created_at"])
