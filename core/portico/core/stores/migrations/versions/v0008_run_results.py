"""Adds the table of once results."""

import sqlalchemy as sa
from alembic import op

revision = "0008"
down_revision = "0007"


def upgrade() -> None:
    """Create the table. Most runs have no rows in it."""
    op.create_table(
        "run_results",
        sa.Column("run_id", sa.String, primary_key=True),
        sa.Column("key", sa.String, primary_key=True),
        sa.Column("result", sa.LargeBinary, nullable=False),
    )
