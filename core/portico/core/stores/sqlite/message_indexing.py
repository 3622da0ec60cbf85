"""Schedules the indexing of session messages.

New messages are indexed later. A background pass indexes all of them in order, and
stores its progress. A search does not wait for the pass: it indexes the messages of
the searched user or session beyond that progress. The pass later skips messages that
are in the index already.
"""

import asyncio
import json
from bisect import bisect_right
from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from sqlalchemy import Row, text
from sqlalchemy.ext.asyncio import AsyncConnection

from portico.core.stores.sql.database import Database

# Limits of one transaction, because commits wait for it.
STEP_MESSAGES = 50
STEP_CHARACTERS = 100_000  # of the messages' texts; a longer message is a step of its own

# If all users together have at most this many pending messages, a search scans only these, and not all
# messages of its user.
IMMEDIATE_INDEX_LIMIT = 5_000

_PROGRESS = text("SELECT position FROM search_progress WHERE index_name = 'messages'")
_NEWEST = text("SELECT coalesce(max(position), 0) FROM messages")
# Selects as many of the chosen messages as one step may index.
_STEP = (
    "WITH chosen AS ({chosen}), sized AS (SELECT position,"
    " length(CASE typeof(text) WHEN 'text' THEN text ELSE payload END) AS size"
    " FROM chosen JOIN messages USING (position)),"
    " summed AS (SELECT position, sum(size) OVER (ORDER BY position) - size AS before FROM sized)"
    " SELECT position, user_id, session_id, text,"
    " CASE typeof(text) WHEN 'text' THEN NULL ELSE payload END AS payload,"
    " EXISTS (SELECT 1 FROM message_words WHERE number = position) AS indexed"
    " FROM summed JOIN messages USING (position) WHERE before < :size ORDER BY position"
)
_NEXT = text(
    _STEP.format(
        chosen="SELECT position FROM messages WHERE position > :since ORDER BY position LIMIT :limit"
    )
)
_THESE = text(_STEP.format(chosen="SELECT value AS position FROM json_each(:positions)"))
_ADVANCE = text(
    "UPDATE search_progress SET position = :to WHERE index_name = 'messages' AND position = :since"
)
_PENDING = (
    "SELECT position FROM messages {through} WHERE position > :since AND user_id = :user_id"
    " AND NOT EXISTS (SELECT 1 FROM message_words WHERE number = messages.position)"
)
_THROUGH_PENDING = text(_PENDING.format(through="NOT INDEXED"))
_THROUGH_USER = text(_PENDING.format(through="INDEXED BY messages_by_session"))
_THROUGH_SESSION = text(f"{_THROUGH_USER} AND session_id = :session_id")

Rows = Sequence["Row[*tuple[Any, ...]]"]  # position, user_id, session_id, text, payload
Entry = Mapping[str, object]


class MessageWriter(Protocol):
    """Writes messages to the index."""

    def entries(self, rows: Rows) -> Sequence[Entry]:
        """Return the index entries of messages. Blocks."""

    async def add(self, connection: AsyncConnection, entries: Sequence[Entry]) -> None:
        """Write the entries of messages that still exist and are not in the index yet."""


class MessageIndexer:
    """Indexes the messages of a database that are not in the index yet."""

    def __init__(self, database: Database, writer: MessageWriter) -> None:
        self._database = database
        self._writer = writer
        self._passing = asyncio.Lock()

    async def index_next(self, limit: int) -> int:
        """Continue the pass by up to `limit` messages; return how many."""
        done = 0
        async with self._passing:
            while done < limit and (found := await self._pass(min(STEP_MESSAGES, limit - done))):
                done += found
        return done

    async def index_pending_of(self, user_id: str, session_id: str | None) -> None:
        """Index the pending messages of a user, or of one session, but not those added during the call."""
        positions = await self._of(user_id, session_id)
        start = 0
        while start < len(positions):
            chosen = json.dumps(positions[start : start + STEP_MESSAGES])
            rows = await self._read(_THESE, {"positions": chosen})
            await self._write(rows)
            # If there are no rows, all of these messages have been deleted.
            start = bisect_right(positions, rows[-1].position) if rows else start + STEP_MESSAGES

    async def _of(self, user_id: str, session_id: str | None) -> Sequence[int]:
        """Return the positions of the pending messages of a user, or of one session, in order."""
        async with self._database.read() as connection:
            since: int = (await connection.execute(_PROGRESS)).scalar_one()
            pending = (await connection.execute(_NEWEST)).scalar_one() - since
            if pending <= 0:
                return []
            values: dict[str, object] = {"since": since, "user_id": user_id}
            query = _THROUGH_PENDING if pending <= IMMEDIATE_INDEX_LIMIT else _THROUGH_USER
            if session_id is not None:
                query = _THROUGH_SESSION
                values["session_id"] = session_id
            return sorted((await connection.execute(query, values)).scalars())

    async def _pass(self, limit: int) -> int:
        async with self._database.read() as connection:
            since = (await connection.execute(_PROGRESS)).scalar_one()
        rows = await self._read(_NEXT, {"since": since, "limit": limit})
        if rows:
            await self._write(rows, {"since": since, "to": rows[-1].position})
        return len(rows)

    async def _read(self, query: Any, values: Mapping[str, object]) -> Rows:
        async with self._database.read() as connection:
            return (await connection.execute(query, {**values, "size": STEP_CHARACTERS})).all()

    async def _write(self, rows: Rows, progress: Mapping[str, object] | None = None) -> None:
        """Index messages in one transaction, which also stores the progress of the pass."""
        new = [row for row in rows if not row.indexed]
        entries = await asyncio.to_thread(self._writer.entries, new) if new else []
        if entries or progress:
            async with self._database.write() as connection:
                if progress:
                    await connection.execute(_ADVANCE, progress)
                if entries:
                    await self._writer.add(connection, entries)
