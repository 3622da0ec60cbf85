"""The search indexes are merged by those who write to them."""

from alembic import op

revision = "0012"
down_revision = "0011"


def upgrade() -> None:
    """FTS5 keeps its settings in a table of the index."""
    if op.get_context().dialect.name == "sqlite":
        for name in ("message_search", "memory_search"):
            op.execute(f"INSERT INTO {name} ({name}, rank) VALUES ('automerge', 0)")  # noqa: S608
