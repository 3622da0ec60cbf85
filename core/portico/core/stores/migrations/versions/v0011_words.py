"""Replaces the full-text indexes by indexes of words per owner."""

from collections.abc import Iterator

import sqlalchemy as sa
from alembic import op

from portico.core.stores.sqlite.full_text_index import Entry, entry

revision = "0011"
down_revision = "0010"

_SERIAL = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
_STEP = 1000


def upgrade() -> None:
    """Index memories at once. Messages are indexed by later searches and in the background."""
    tables = {name: _table(name) for name in ("message_words", "memory_words")}
    op.execute("UPDATE search_progress SET position = 0 WHERE index_name = 'messages'")
    if op.get_context().dialect.name != "sqlite":
        return
    for name in ("message_search", "memory_search"):
        _index(name)
    connection = op.get_bind()
    for entries in _entries(connection):
        connection.execute(sa.insert(tables["memory_words"]), entries)
    op.execute("INSERT INTO memory_search (rowid, terms) SELECT number, terms FROM memory_search_terms")


def _table(name: str) -> sa.Table:
    return op.create_table(
        name,
        sa.Column("number", _SERIAL, primary_key=True, autoincrement=False),
        sa.Column("owner", sa.String, nullable=False),
        sa.Column("session", sa.String, nullable=False),
        sa.Column("words", sa.Text, nullable=False),
        sa.Column("counts", sa.LargeBinary, nullable=False),
    )


def _index(name: str) -> None:
    """Create an FTS5 table. FTS5 reads the words of a row to delete from the view."""
    op.execute(f"DROP TABLE {name}")
    words = name.replace("_search", "_words")
    op.execute(
        f"CREATE VIEW {name}_terms AS SELECT number, session || ' ' || owner || ' ' || owner ||"  # noqa: S608
        f" replace(words, ' ', ' ' || owner) AS terms FROM {words}"
    )
    op.execute(
        f"CREATE VIRTUAL TABLE {name} USING fts5(terms, content='{name}_terms', content_rowid='number',"
        " detail=none, columnsize=0, tokenize='ascii tokenchars ''+#''')"
    )
    op.execute(f"CREATE VIRTUAL TABLE {name}_counts USING fts5vocab({name}, row)")


def _entries(connection: sa.Connection) -> Iterator[list[Entry]]:
    rows = sa.text(
        "SELECT number, user_id, session_id, text FROM memories WHERE number > :after"
        " ORDER BY number LIMIT :step"
    )
    after = 0
    while found := connection.execute(rows, {"after": after, "step": _STEP}).all():
        yield [entry(*row) for row in found]
        after = found[-1][0]
