"""Adds the protocol of a push config's receiver."""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"

_KEPT = "run_id, config_id, url, token, auth_scheme, auth_credentials, delivered, ended, created_at, revision"


def upgrade() -> None:
    """Recreate the table, because SQLite would put an added column after the constraints."""
    op.rename_table("push_configs", "push_configs_before")
    op.create_table(
        "push_configs",
        sa.Column("run_id", sa.String, primary_key=True),
        sa.Column("config_id", sa.String, primary_key=True),
        sa.Column("url", sa.String, nullable=False),
        sa.Column("token", sa.String, nullable=False),
        sa.Column("auth_scheme", sa.String, nullable=False),
        sa.Column("auth_credentials", sa.String, nullable=False),
        sa.Column("delivered", sa.BigInteger, nullable=False),
        sa.Column("ended", sa.Boolean, nullable=False),
        sa.Column("created_at", sa.Double, nullable=False),
        sa.Column("revision", sa.String, nullable=False),
        sa.Column("protocol", sa.String, nullable=False),
    )
    # Existing receivers use the default protocol of the deliverer.
    op.execute(
        f"INSERT INTO push_configs ({_KEPT}, protocol) SELECT {_KEPT}, '' FROM push_configs_before"  # noqa: S608
    )
    op.drop_table("push_configs_before")
    op.create_index("push_configs_undelivered", "push_configs", ["ended", "created_at"])
