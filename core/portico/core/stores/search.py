"""Search by words in SQLite, with FTS5: the part that another database does otherwise.

Each index has two columns: the words of the text, and whose it is, as a token.
So the owner is looked up like a word; sorting out other people's hits after the
search would cost the more, the more people there are.
"""

import asyncio
from collections.abc import Mapping, Sequence
from hashlib import blake2s

from sqlalchemy import (
    Delete,
    Select,
    TableClause,
    TextClause,
    bindparam,
    column,
    delete,
    func,
    select,
    table,
    text,
)
from sqlalchemy import literal_column as raw
from sqlalchemy.ext.asyncio import AsyncConnection

from portico.core.stores.base import MemoryHit, MemoryRecord, MessageHit, StoredMessage
from portico.core.stores.database import Database
from portico.core.stores.filters import MetadataFilter
from portico.core.stores.packing import text_of, unpacked
from portico.core.stores.pending_messages import Entry, PendingMessages, Rows
from portico.core.stores.schema import memories as stored
from portico.core.stores.sql_filters import RECORD, alive, chosen
from portico.core.stores.words import query_words, text_words

# The message may have been deleted, or indexed, since it was read.
_ADD_MESSAGE = text(
    "INSERT INTO message_search (rowid, owner, text) SELECT :position, :owner, :text"
    " WHERE EXISTS (SELECT 1 FROM messages WHERE messages.position = :position)"
    " AND NOT EXISTS (SELECT 1 FROM message_search WHERE rowid = :position)"
)
_FIND_MESSAGES = (
    "WITH hits AS (SELECT rowid AS position, bm25(message_search, 0.0, 1.0) AS rank FROM message_search"
    " WHERE message_search MATCH :match{of_role}{of_type} ORDER BY rank, position DESC LIMIT :limit)"
    " SELECT session_id, position, message_id, payload, created_at, run_id, -rank"
    " FROM hits JOIN messages USING (position) WHERE user_id = :user_id ORDER BY rank, position DESC"
)
_IS_ONE_OF = " AND (SELECT {column} FROM messages WHERE position = message_search.rowid) IN :{column}s"
# A deleted entry's words stay in an index, with a note that it is gone, until the parts that have the two
# are merged. With a negative number all parts of the index begin to be, so many pages of them at a time.
_MERGE = "INSERT INTO {table} ({table}, rank) VALUES ('merge', {pages})"
_MERGED_PAGES = 200
_CHANGES = "SELECT total_changes()"
_MESSAGE_SEARCH = table("message_search", column("rowid"))
_MEMORY_SEARCH = table("memory_search", column("rowid"))
_ADD_MEMORY = text("INSERT INTO memory_search (rowid, owner, text) VALUES (:number, :owner, :text)")


class SqliteMessageIndex:
    """The index of session messages, which follows the messages at a distance."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._pending = PendingMessages(database, MessageEntries())

    async def index_pending(self, limit: int) -> int:
        """Index so many messages at most; how many it was."""
        return await self._pending.index_next(limit)

    async def search(
        self,
        user_id: str,
        query: str,
        session_id: str | None,
        limit: int,
        roles: Sequence[str],
        types: Sequence[str],
    ) -> Sequence[MessageHit]:
        """Over all messages of the user, or session, that are there when the search begins."""
        match = _match(user_id, session_id, query)
        if match is None:
            return []
        await self._pending.index_of(user_id, session_id)
        values = {"match": match, "limit": limit, "user_id": user_id, "roles": roles, "types": types}
        async with self._database.read() as connection:
            rows = (await connection.execute(_find_messages(roles, types), values)).all()
        return [MessageHit(_message(*row[:6]), row[6]) for row in rows]

    async def remove(self, connection: AsyncConnection, positions: Select[int]) -> None:
        """Forget messages, in the transaction that deletes them."""
        await connection.execute(_removal(_MESSAGE_SEARCH, positions))


class MessageEntries:
    """What the index has of messages."""

    def entries(self, rows: Rows) -> Sequence[Entry]:
        return [
            _entry(row.user_id, row.session_id, words) | {"position": row.position}
            for row in rows
            if (words := text_words(text_of(row.text, row.payload)))
        ]

    async def add(self, connection: AsyncConnection, entries: Sequence[Entry]) -> None:
        await connection.execute(_ADD_MESSAGE, entries)


class SqliteMemoryIndex:
    """The index of memories, written in the same transaction."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def add(self, connection: AsyncConnection, memories: Mapping[int, MemoryRecord]) -> None:
        """Index memories by their numbers."""
        await connection.execute(_ADD_MEMORY, await asyncio.to_thread(_memory_entries, memories))

    async def remove(self, connection: AsyncConnection, numbers: Select[int]) -> None:
        """Forget memories, in the transaction that deletes them."""
        await connection.execute(_removal(_MEMORY_SEARCH, numbers))

    async def search(
        self, user_id: str, query: str, limit: int, session_id: str | None, filter: MetadataFilter
    ) -> Sequence[MemoryHit]:
        match = _match(user_id, session_id, query)
        if match is None:
            return []
        found = _find_memories(match, user_id, session_id, filter).limit(limit).subquery()
        best = (
            select(-found.c.rank, *RECORD)
            .join_from(found, stored, found.c.number == stored.c.number)
            .order_by(found.c.rank, found.c.number.desc())
        )
        async with self._database.read() as connection:
            rows = (await connection.execute(best)).all()
        return [MemoryHit(MemoryRecord(*row[1:]), row[0]) for row in rows]


def _message(
    session_id: str, position: int, message_id: str, payload: bytes, created_at: float, run_id: str
) -> StoredMessage:
    return StoredMessage(session_id, position, message_id, unpacked(payload), created_at, run_id)


def _match(user_id: str, session_id: str | None, query: str) -> str | None:
    """An FTS5 expression, None if the query has no words. Words are letters, digits and marks only."""
    words, prefixes = query_words(query)
    terms = [f'"{word}"' for word in words] + [f'"{prefix}" *' for prefix in prefixes]
    if not terms:
        return None
    owners = " AND ".join(f'owner : "{token}"' for token in _owner(user_id, session_id))
    return f"{owners} AND text : ({' OR '.join(terms)})"


def _owner(user_id: str, session_id: str | None) -> list[str]:
    tokens = [_token("u", user_id)]
    if session_id is not None:
        tokens.append(_token("s", session_id))
    return tokens


def _token(kind: str, name: str) -> str:
    # The digit at the end keeps the stemmer from taking -ed or -e off.
    return f"{kind}{blake2s(name.encode(), digest_size=16).hexdigest()}0"


def _memory_entries(memories: Mapping[int, MemoryRecord]) -> list[dict[str, object]]:
    return [
        _entry(memory.user_id, memory.session_id, text_words(memory.text)) | {"number": number}
        for number, memory in memories.items()
    ]


def _entry(user_id: str, session_id: str, words: list[str]) -> dict[str, object]:
    return {"owner": " ".join(_owner(user_id, session_id)), "text": " ".join(words)}


def _find_messages(roles: Sequence[str], types: Sequence[str]) -> TextClause:
    found = _FIND_MESSAGES.format(
        of_role=_IS_ONE_OF.format(column="role") if roles else "",
        of_type=_IS_ONE_OF.format(column="type") if types else "",
    )
    wanted = [name for name, words in (("roles", roles), ("types", types)) if words]
    return text(found).bindparams(*(bindparam(name, expanding=True) for name in wanted))


def _removal(index: TableClause, rows: Select[int]) -> Delete:
    return delete(index).where(index.c.rowid.in_(rows))


def _find_memories(
    match: str, user_id: str, session_id: str | None, filter: MetadataFilter
) -> "Select[int, float]":
    """Numbers and ranks, the best first, that is, the least."""
    rank = func.bm25(raw("memory_search"), 0.0, 1.0).label("rank")
    query = (
        select(stored.c.number, rank)
        .join_from(_MEMORY_SEARCH, stored, stored.c.number == _MEMORY_SEARCH.c.rowid)
        .where(
            raw("memory_search").bool_op("MATCH")(match),
            stored.c.user_id == user_id,
            alive(),
            *chosen(filter, stored.c.number),
        )
        .order_by(rank, stored.c.number.desc())
    )
    if session_id is not None:
        query = query.where(stored.c.session_id == session_id)
    return query


async def forget_deleted(database: Database) -> None:
    """Leave no word in an index that only deleted entries had; in steps, between which others write."""
    for name in (_MESSAGE_SEARCH.name, _MEMORY_SEARCH.name):
        pages = -_MERGED_PAGES
        while await _merged(database, _MERGE.format(table=name, pages=pages)):
            pages = _MERGED_PAGES


async def _merged(database: Database, step: str) -> bool:
    """Whether there was anything to merge."""
    async with database.write() as connection:
        before = (await connection.exec_driver_sql(_CHANGES)).scalar_one()
        await connection.exec_driver_sql(step)
        after = (await connection.exec_driver_sql(_CHANGES)).scalar_one()
    # The command itself counts as one.
    return bool(after - before > 1)
