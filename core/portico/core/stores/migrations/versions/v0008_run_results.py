"""Results of functions that a run calls once."""

import sqlalchemy as sa
from alembic import op

revision = "0008"
down_revision = "0007"


def upgrade() -> None:
    """Most runs have none."""
    op.create_table(
        "run_results",
        sa.Column("run_id", sa.String, primary_key=True),
        sa.Column("key", sa.String, primary_key=True),
        sa.Column("result", sa.LargeBinary, nullable=False),
    )
