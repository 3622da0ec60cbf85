"""Adds the table of runs that are deleted in steps."""

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"


def upgrade() -> None:
    """Create the table. It has rows only while a large run is deleted, and after a crash in between."""
    op.create_table("deleted_runs", sa.Column("run_id", sa.String, primary_key=True))
