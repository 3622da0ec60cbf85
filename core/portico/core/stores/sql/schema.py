"""The database tables, portable to PostgreSQL. A migration creates the full-text tables, for SQLite only."""

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    Dialect,
    Double,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    String,
    Table,
    Text,
    TypeDecorator,
    UniqueConstraint,
    text,
)

from portico.core.stores.ports.stores import AUTO_PREFIX
from portico.core.stores.sql.compression import decompress

metadata = MetaData()


class Packed(TypeDecorator[bytes]):
    """Bytes that are written plain and may be compressed later; decompressed on reading."""

    impl = LargeBinary
    cache_ok = True

    def process_result_value(self, value: bytes | None, dialect: Dialect) -> bytes | None:
        return None if value is None else decompress(value)


# A number that the database assigns. SQLite assigns numbers to INTEGER columns only.
_Serial = BigInteger().with_variant(Integer, "sqlite")
# A text ordered by code points, as in Python. SQLite's default order is the same.
_CodePoints = Text().with_variant(Text(collation="C"), "postgresql")

HAS_KEY = f"idempotency_key NOT LIKE '{AUTO_PREFIX}%'"
IS_EPHEMERAL = "ephemeral <> ''"
KEY_IS_SET = "key <> ''"
EXPIRES = "expires_at IS NOT NULL"

runs = Table(
    "runs",
    metadata,
    Column("run_id", String, primary_key=True),
    Column("agent_name", String, nullable=False),
    Column("user_id", String, nullable=False),
    Column("session_id", String, nullable=False),
    Column("status", String, nullable=False),
    Column("created_at", Double, nullable=False),
    Column("updated_at", Double, nullable=False),
    Column("last_sequence_number", BigInteger, nullable=False),
    Column("attempt", Integer, nullable=False),
    Column("background", Boolean, nullable=False),
    Column("idempotency_key", String),
    Column("request", LargeBinary, nullable=False),
    Column("summary", LargeBinary, nullable=False),
    Column("answers", LargeBinary, nullable=False),
    Column("ephemeral", String, nullable=False),
    Index("runs_by_time", "created_at", "run_id"),
    Index("runs_by_agent", "agent_name", "created_at", "run_id"),
    Index("runs_by_status_time", "agent_name", "updated_at", "run_id"),
    Index("runs_by_user", "user_id", "created_at", "run_id"),
    Index("runs_by_session", "session_id", "created_at", "run_id"),
    Index("runs_by_status", "status", "created_at", "run_id"),
    # Not unique: a key used twice must never make the commit of other runs fail.
    Index(
        "runs_by_key",
        "user_id",
        "idempotency_key",
        sqlite_where=text(HAS_KEY),
        postgresql_where=text(HAS_KEY),
    ),
    Index("runs_left_over", "run_id", sqlite_where=text(IS_EPHEMERAL), postgresql_where=text(IS_EPHEMERAL)),
)

# With a rowid: measured, WITHOUT ROWID takes 1.4 to 2.4 times as long to write and up to twice the space.
run_events = Table(
    "run_events",
    metadata,
    Column("run_id", String, primary_key=True),
    Column("first", BigInteger, primary_key=True),
    Column("last", BigInteger, nullable=False),
    Column("data", LargeBinary, nullable=False),
)

# Committed chunks that are not yet rows of run_events; see unflushed_chunks. SQLite only.
log_segments = Table(
    "log_segments",
    metadata,
    Column("segment_id", _Serial, primary_key=True),
    Column("data", LargeBinary, nullable=False),
)

# Deleted runs whose events are not all deleted yet: large runs are deleted in steps.
deleted_runs = Table("deleted_runs", metadata, Column("run_id", String, primary_key=True))

# Results of functions that a run calls once. Deleted with the run.
run_results = Table(
    "run_results",
    metadata,
    Column("run_id", String, primary_key=True),
    Column("key", String, primary_key=True),
    Column("result", LargeBinary, nullable=False),
)

states = Table(
    "states",
    metadata,
    Column("user_id", String, primary_key=True),
    Column("session_id", String, primary_key=True),
    Column("part", String, primary_key=True),
    Column("round_id", BigInteger, primary_key=True, autoincrement=False),
    Column("state", Text, nullable=False),
    Column("etag", String, nullable=False),
    Column("updated_at", Double, nullable=False),
    Index("states_by_age", "updated_at"),
)

sessions = Table(
    "sessions",
    metadata,
    Column("user_id", String, primary_key=True),
    Column("session_id", String, primary_key=True),
    Column("created_at", Double, nullable=False),
    Column("updated_at", Double, nullable=False),
    Column("metadata", Text, nullable=False),
    Index("sessions_by_use", "user_id", "updated_at", "session_id"),
    Index("sessions_by_age", "updated_at"),
    sqlite_with_rowid=False,
)

messages = Table(
    "messages",
    metadata,
    Column("position", _Serial, primary_key=True),
    Column("user_id", String, nullable=False),
    Column("session_id", String, nullable=False),
    Column("message_id", String, nullable=False),
    Column("role", String, nullable=False),
    Column("text", Text, nullable=False),
    Column("payload", Packed, nullable=False),
    Column("created_at", Double, nullable=False),
    Column("run_id", String, nullable=False),
    Column("type", String, server_default="message", nullable=False),
    UniqueConstraint("user_id", "session_id", "message_id"),
    Index("messages_by_session", "user_id", "session_id", "position"),
    # Positions are never reused, because the search index stores the last position that it indexed.
    sqlite_autoincrement=True,
)

memories = Table(
    "memories",
    metadata,
    Column("number", _Serial, primary_key=True),
    Column("memory_id", String, nullable=False, unique=True),
    Column("user_id", String, nullable=False),
    Column("session_id", String, nullable=False),
    Column("text", Text, nullable=False),
    Column("created_at", Double, nullable=False),
    Column("metadata", Text, nullable=False),
    Column("key", String, server_default="", nullable=False),
    Column("updated_at", Double, server_default="0", nullable=False),
    Column("expires_at", Double),
    Index("memories_by_time", "user_id", "created_at", "memory_id"),
    Index("memories_by_session", "user_id", "session_id", "created_at", "memory_id"),
    Index("memories_by_age", "updated_at"),
    Index(
        "memories_by_key",
        "user_id",
        "key",
        unique=True,
        sqlite_where=text(KEY_IS_SET),
        postgresql_where=text(KEY_IS_SET),
    ),
    Index(
        "memories_by_expiry",
        "expires_at",
        sqlite_where=text(EXPIRES),
        postgresql_where=text(EXPIRES),
    ),
    sqlite_autoincrement=True,
)

# The members of memories' metadata, so that a filter has the same result in every
# database, independent of how its JSON functions treat numbers. See json_fields.py.
memory_members = Table(
    "memory_members",
    metadata,
    Column("number", BigInteger, primary_key=True, autoincrement=False),
    Column("name", String, primary_key=True),
    Column("kind", String, nullable=False),
    Column("text", _CodePoints),
    Column("number_value", Double),
    sqlite_with_rowid=False,
)


def _words(name: str) -> Table:
    """Table of a full-text index; its columns are the fields of full_text_index.Entry."""
    return Table(
        name,
        metadata,
        Column("number", _Serial, primary_key=True, autoincrement=False),
        Column("owner", String, nullable=False),
        Column("session", String, nullable=False),
        Column("words", Text, nullable=False),
        Column("counts", LargeBinary, nullable=False),
    )


message_words = _words("message_words")
memory_words = _words("memory_words")

push_configs = Table(
    "push_configs",
    metadata,
    Column("run_id", String, primary_key=True),
    Column("config_id", String, primary_key=True),
    Column("url", String, nullable=False),
    Column("token", String, nullable=False),
    Column("auth_scheme", String, nullable=False),
    Column("auth_credentials", String, nullable=False),
    Column("delivered", BigInteger, nullable=False),
    Column("ended", Boolean, nullable=False),
    Column("created_at", Double, nullable=False),
    Column("revision", String, nullable=False),
    Column("protocol", String, nullable=False),
    Index("push_configs_undelivered", "ended", "created_at"),
)

api_keys = Table(
    "api_keys",
    metadata,
    Column("key_id", String, primary_key=True),
    Column("digest", LargeBinary, nullable=False),
    Column("name", String, nullable=False),
    Column("tenant", String, nullable=False),
    Column("user_id", String, nullable=False),
    Column("scopes", String, nullable=False),
    Column("created_at", Double, nullable=False),
    Column("expires_at", Double),
    Column("revoked_at", Double),
)

# The last row processed by each background job: the index of messages, and compression.
search_progress = Table(
    "search_progress",
    metadata,
    Column("index_name", String, primary_key=True),
    Column("position", BigInteger, nullable=False),
)

# The core that may write; see epoch_fence.py.
owners = Table(
    "owners",
    metadata,
    Column("slot", Integer, primary_key=True, autoincrement=False),
    Column("epoch", BigInteger, nullable=False),
)
