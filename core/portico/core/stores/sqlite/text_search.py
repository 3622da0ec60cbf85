"""Full-text search of messages and memories in SQLite."""

import asyncio
import json
from collections.abc import Iterable, Mapping, Sequence
from heapq import nlargest

from sqlalchemy import ColumnElement, ScalarSelect, Select, and_, exists, func, or_, select
from sqlalchemy.ext.asyncio import AsyncConnection

from portico.core.stores.ports.memory_filters import MetadataFilter
from portico.core.stores.ports.stores import MemoryHit, MemoryRecord, MessageHit, StoredMessage
from portico.core.stores.search.ranking import add_following_scores, scores
from portico.core.stores.sql.compression import decode_text
from portico.core.stores.sql.database import Database
from portico.core.stores.sql.memory_filters import MEMORY_COLUMNS, filter_conditions, not_expired
from portico.core.stores.sql.schema import memories as stored
from portico.core.stores.sql.schema import memory_words, message_words, messages
from portico.core.stores.sqlite.full_text_index import FullTextIndex, entry
from portico.core.stores.sqlite.message_indexing import Entry, MessageIndexer, Rows

_MESSAGE = (
    messages.c.session_id,
    messages.c.position,
    messages.c.message_id,
    messages.c.payload,
    messages.c.created_at,
    messages.c.run_id,
)


class SqliteMessageIndex:
    """The index of session messages. New messages are indexed later, at the latest by the next search."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._words = FullTextIndex(database, message_words)
        self._pending = MessageIndexer(database, MessageIndexEntries(self._words))

    async def index_pending(self, limit: int) -> int:
        """Index up to `limit` messages; return how many."""
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
        """Search all messages of the user, or of one session, that exist when the search begins."""
        await self._pending.index_pending_of(user_id, session_id)
        number = message_words.c.number
        # Also include messages whose following message has such a role and type: its score depends on both.
        fits = (
            [or_(_is_chosen(number, roles, types), _is_chosen(_following(number), roles, types))]
            if roles or types
            else []
        )
        found = await scores(self._words.of(user_id, session_id, *fits), query)
        following = select(number, _following(number)).where(number.in_(_each(found)))
        async with self._database.read() as connection:
            pairs = [(row[0], row[1]) for row in await connection.execute(following)]
            ranked = add_following_scores(found, {one: other for one, other in pairs if other is not None})
            if fits:
                place = messages.c.position
                answers = select(place).where(place.in_(_each(ranked)), _is_chosen(place, roles, types))
                rows = await connection.execute(answers)
                ranked = {position: ranked[position] for position in rows.scalars()}
            best = nlargest(limit, ranked, key=lambda position: (ranked[position], position))
            records = select(messages.c.user_id, *_MESSAGE).where(messages.c.position.in_(_each(best)))
            by_position = {row[2]: row for row in await connection.execute(records)}
        # Some may have been deleted since. The user is compared here because with that condition in SQL
        # SQLite would read all messages of the user.
        return [
            MessageHit(StoredMessage(*by_position[position][1:]), ranked[position])
            for position in best
            if position in by_position and by_position[position][0] == user_id
        ]

    async def remove(self, connection: AsyncConnection, positions: Select[int]) -> None:
        """Remove messages from the index, in the transaction that deletes them."""
        await self._words.remove(connection, positions)


class MessageIndexEntries:
    """Makes index entries of messages and adds them to the index."""

    def __init__(self, words: FullTextIndex) -> None:
        self._words = words

    def entries(self, rows: Rows) -> Sequence[Entry]:
        return [
            entry(row.position, row.user_id, row.session_id, decode_text(row.text, row.payload))
            for row in rows
        ]

    async def add(self, connection: AsyncConnection, entries: Sequence[Entry]) -> None:
        positions = _each(one["number"] for one in entries)
        indexed = exists().where(message_words.c.number == messages.c.position)
        query = select(messages.c.position).where(messages.c.position.in_(positions), ~indexed)
        new = set((await connection.execute(query)).scalars())
        await self._words.add(connection, [one for one in entries if one["number"] in new])


class SqliteMemoryIndex:
    """The index of memories. It is written in the same transaction as the memories."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._words = FullTextIndex(database, memory_words)

    async def add(self, connection: AsyncConnection, memories: Mapping[int, MemoryRecord]) -> None:
        """Index memories by their numbers."""
        await self._words.add(connection, await asyncio.to_thread(_memory_entries, memories))

    async def remove(self, connection: AsyncConnection, numbers: Select[int]) -> None:
        """Remove memories from the index, in the transaction that deletes them."""
        await self._words.remove(connection, numbers)

    async def search(
        self, user_id: str, query: str, limit: int, session_id: str | None, filter: MetadataFilter
    ) -> Sequence[MemoryHit]:
        of_user = [stored.c.user_id == user_id, not_expired(), *filter_conditions(filter, stored.c.number)]
        fits = exists().where(stored.c.number == memory_words.c.number, *of_user)
        found = await scores(self._words.of(user_id, session_id, fits), query)
        best = nlargest(limit, found, key=lambda number: (found[number], number))
        records = select(stored.c.number, *MEMORY_COLUMNS).where(stored.c.number.in_(_each(best)))
        async with self._database.read() as connection:
            rows = {row[0]: MemoryRecord(*row[1:]) for row in await connection.execute(records)}
        # The user is compared here for the same reason as for messages.
        return [
            MemoryHit(rows[number], found[number])
            for number in best
            if number in rows and rows[number].user_id == user_id
        ]


def _memory_entries(memories: Mapping[int, MemoryRecord]) -> list[Entry]:
    return [
        entry(number, memory.user_id, memory.session_id, memory.text) for number, memory in memories.items()
    ]


def _is_chosen(
    position: ColumnElement[int], roles: Sequence[str], types: Sequence[str]
) -> ColumnElement[bool]:
    """Return the condition that a message has one of the roles and one of the types."""
    this = messages.alias()
    terms = [column.in_(words) for column, words in ((this.c.role, roles), (this.c.type, types)) if words]
    return exists().where(this.c.position == position, *terms)


def _following(position: ColumnElement[int]) -> ScalarSelect[int]:
    """Select the next message of the same session that has words, skipping for instance tool calls."""
    this, later, words = messages.alias(), messages.alias(), message_words.alias()
    of_session = and_(later.c.user_id == this.c.user_id, later.c.session_id == this.c.session_id)
    return (
        select(later.c.position)
        .select_from(this)
        .join(later, and_(of_session, later.c.position > this.c.position))
        .join(words, and_(words.c.number == later.c.position, words.c.words != ""))
        .where(this.c.position == position)
        .order_by(later.c.position)
        .limit(1)
        .scalar_subquery()
    )


def _each(numbers: Iterable[object]) -> Select[int]:
    """Select any number of values from a single parameter, independent of the limit on parameters."""
    each = func.json_each(json.dumps(list(numbers))).table_valued("value")
    return select(each.c.value)
