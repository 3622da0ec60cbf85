"""Creates all tables of the first release."""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None

_SERIAL = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
_HAS_KEY = sa.text("idempotency_key NOT LIKE 'auto:%'")
_IS_EPHEMERAL = sa.text("ephemeral <> ''")
# Marks are parts of words; otherwise the words of Indic scripts would be split.
_TOKENIZER = "porter unicode61 remove_diacritics 2 categories ''L* N* M* Co''"


def upgrade() -> None:
    """Create the tables in an empty database."""
    _runs()
    _sessions()
    _memories()
    op.create_table(
        "states",
        sa.Column("user_id", sa.String, primary_key=True),
        sa.Column("session_id", sa.String, primary_key=True),
        sa.Column("round_id", sa.BigInteger, primary_key=True, autoincrement=False),
        sa.Column("state", sa.Text, nullable=False),
        sa.Column("etag", sa.String, nullable=False),
        sa.Column("updated_at", sa.Double, nullable=False),
    )
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
    )
    op.create_index("push_configs_undelivered", "push_configs", ["ended", "created_at"])
    progress = op.create_table(
        "search_progress",
        sa.Column("index_name", sa.String, primary_key=True),
        sa.Column("position", sa.BigInteger, nullable=False),
    )
    op.bulk_insert(progress, [{"index_name": "messages", "position": 0}])
    if op.get_context().dialect.name == "sqlite":
        for table in ("message_search", "memory_search"):
            op.execute(f"CREATE VIRTUAL TABLE {table} USING fts5(owner, text, tokenize='{_TOKENIZER}')")


def _runs() -> None:
    op.create_table(
        "runs",
        sa.Column("run_id", sa.String, primary_key=True),
        sa.Column("agent_name", sa.String, nullable=False),
        sa.Column("user_id", sa.String, nullable=False),
        sa.Column("session_id", sa.String, nullable=False),
        sa.Column("status", sa.String, nullable=False),
        sa.Column("created_at", sa.Double, nullable=False),
        sa.Column("updated_at", sa.Double, nullable=False),
        sa.Column("last_sequence_number", sa.BigInteger, nullable=False),
        sa.Column("attempt", sa.Integer, nullable=False),
        sa.Column("background", sa.Boolean, nullable=False),
        sa.Column("idempotency_key", sa.String),
        sa.Column("request", sa.LargeBinary, nullable=False),
        sa.Column("summary", sa.LargeBinary, nullable=False),
        sa.Column("answers", sa.LargeBinary, nullable=False),
        sa.Column("ephemeral", sa.String, nullable=False),
    )
    op.create_index("runs_by_time", "runs", ["created_at", "run_id"])
    op.create_index("runs_by_agent", "runs", ["agent_name", "created_at", "run_id"])
    op.create_index("runs_by_status_time", "runs", ["agent_name", "updated_at", "run_id"])
    op.create_index("runs_by_user", "runs", ["user_id", "created_at", "run_id"])
    op.create_index("runs_by_session", "runs", ["session_id", "created_at", "run_id"])
    op.create_index("runs_by_status", "runs", ["status", "created_at", "run_id"])
    op.create_index(
        "runs_by_key",
        "runs",
        ["user_id", "idempotency_key"],
        sqlite_where=_HAS_KEY,
        postgresql_where=_HAS_KEY,
    )
    op.create_index(
        "runs_left_over", "runs", ["run_id"], sqlite_where=_IS_EPHEMERAL, postgresql_where=_IS_EPHEMERAL
    )
    op.create_table(
        "run_events",
        sa.Column("run_id", sa.String, primary_key=True),
        sa.Column("first", sa.BigInteger, primary_key=True),
        sa.Column("last", sa.BigInteger, nullable=False),
        sa.Column("data", sa.LargeBinary, nullable=False),
    )
    op.create_table(
        "log_segments",
        sa.Column("segment_id", _SERIAL, primary_key=True),
        sa.Column("data", sa.LargeBinary, nullable=False),
    )


def _sessions() -> None:
    op.create_table(
        "sessions",
        sa.Column("user_id", sa.String, primary_key=True),
        sa.Column("session_id", sa.String, primary_key=True),
        sa.Column("created_at", sa.Double, nullable=False),
        sa.Column("updated_at", sa.Double, nullable=False),
        sa.Column("metadata", sa.Text, nullable=False),
        sqlite_with_rowid=False,
    )
    op.create_index("sessions_by_use", "sessions", ["user_id", "updated_at", "session_id"])
    op.create_table(
        "messages",
        sa.Column("position", _SERIAL, primary_key=True),
        sa.Column("user_id", sa.String, nullable=False),
        sa.Column("session_id", sa.String, nullable=False),
        sa.Column("message_id", sa.String, nullable=False),
        sa.Column("role", sa.String, nullable=False),
        sa.Column("text", sa.Text, nullable=False),
        sa.Column("payload", sa.LargeBinary, nullable=False),
        sa.Column("created_at", sa.Double, nullable=False),
        sa.Column("run_id", sa.String, nullable=False),
        sa.UniqueConstraint("user_id", "session_id", "message_id"),
        sqlite_autoincrement=True,
    )
    op.create_index("messages_by_session", "messages", ["user_id", "session_id", "position"])


def _memories() -> None:
    op.create_table(
        "memories",
        sa.Column("number", _SERIAL, primary_key=True),
        sa.Column("memory_id", sa.String, nullable=False, unique=True),
        sa.Column("user_id", sa.String, nullable=False),
        sa.Column("session_id", sa.String, nullable=False),
        sa.Column("text", sa.Text, nullable=False),
        sa.Column("created_at", sa.Double, nullable=False),
        sa.Column("metadata", sa.Text, nullable=False),
        sqlite_autoincrement=True,
    )
    op.create_index("memories_by_time", "memories", ["user_id", "created_at", "memory_id"])
    op.create_index("memories_by_session", "memories", ["user_id", "session_id", "created_at", "memory_id"])
    op.create_table(
        "memory_members",
        sa.Column("number", sa.BigInteger, primary_key=True, autoincrement=False),
        sa.Column("name", sa.String, primary_key=True),
        sa.Column("value", sa.Text, nullable=False),
        sqlite_with_rowid=False,
    )
