"""Adds parts of states, which were encoded in the ids of sessions before."""

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"

# The names of the parts of framework adapters. LangGraph's name was followed by a thread's id.
_NAMES = ("agentscope", "agentscope1", "agno", "autogen", "ms_agent_framework")
_THREADS = "#langgraph:"
_KEPT = "user_id, session_id, round_id, state, etag, updated_at"
_PARTS = sa.table("states", *map(sa.column, ("user_id", "session_id", "part")))


def upgrade() -> None:
    """Recreate the table, because a primary key can't be changed."""
    op.drop_index("states_by_age", "states")
    op.rename_table("states", "states_before")
    op.create_table(
        "states",
        sa.Column("user_id", sa.String, primary_key=True),
        sa.Column("session_id", sa.String, primary_key=True),
        sa.Column("part", sa.String, primary_key=True),
        sa.Column("round_id", sa.BigInteger, primary_key=True, autoincrement=False),
        sa.Column("state", sa.Text, nullable=False),
        sa.Column("etag", sa.String, nullable=False),
        sa.Column("updated_at", sa.Double, nullable=False),
    )
    op.execute(f"INSERT INTO states ({_KEPT}, part) SELECT {_KEPT}, '' FROM states_before")  # noqa: S608
    op.drop_table("states_before")
    op.create_index("states_by_age", "states", ["updated_at"])
    _split(op.get_bind())


def _split(connection: sa.Connection) -> None:
    names = sa.text("SELECT DISTINCT user_id, session_id FROM states WHERE session_id LIKE '%#%'")
    for user_id, long_name in connection.execute(names).fetchall():
        if _used(connection, user_id, long_name):
            continue  # a session whose own id looks like that of a part
        for session_id, part in _readings(long_name):
            # Only parts of existing sessions. States left by deleted sessions stay unchanged and listed.
            if _has_session(connection, user_id, session_id):
                these = sa.and_(_PARTS.c.user_id == user_id, _PARTS.c.session_id == long_name)
                move = sa.update(_PARTS).where(these)
                connection.execute(move.values(session_id=session_id, part=part))
                break


def _readings(long_name: str) -> list[tuple[str, str]]:
    """Return the sessions and parts that this name may stand for."""
    session_id, _, name = long_name.rpartition("#")
    found = [(session_id, name)] if name in _NAMES else []
    place = long_name.find(_THREADS)
    while place >= 0:
        found.append((long_name[:place], long_name[place + 1 :]))
        place = long_name.find(_THREADS, place + 1)
    return found


def _has_session(connection: sa.Connection, user_id: str, session_id: str) -> bool:
    query = sa.text("SELECT 1 FROM sessions WHERE user_id = :user AND session_id = :session")
    return connection.execute(query, {"user": user_id, "session": session_id}).first() is not None


def _used(connection: sa.Connection, user_id: str, session_id: str) -> bool:
    if _has_session(connection, user_id, session_id):
        return True
    query = sa.text("SELECT 1 FROM runs WHERE user_id = :user AND session_id = :session LIMIT 1")
    return connection.execute(query, {"user": user_id, "session": session_id}).first() is not None
