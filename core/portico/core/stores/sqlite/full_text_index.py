"""The full-text index in SQLite, with FTS5. Another database would need a different one.

A text's words are stored as one row. The terms that FTS5 indexes are the words, each with a
hash of the text's owner as prefix. So the texts of one owner with a word are one list, which
FTS5 reads and counts without reading data of other owners, and writes together with those
of many other words.
"""

import json
from base64 import b32encode
from collections.abc import Mapping, Sequence
from hashlib import blake2s

from sqlalchemy import ColumnElement, Select, Table, column, delete, func, insert, select, table, text
from sqlalchemy import literal_column as raw
from sqlalchemy.ext.asyncio import AsyncConnection

from portico.core.stores.search.ranking import IndexedText
from portico.core.stores.sql.database import Database
from portico.core.stores.sql.schema import memory_words, message_words

Entry = Mapping[str, object]

# FTS5 marks a deleted text's words as deleted, and removes them only when it merges the segments of its index
# with the words and the mark. A negative number of pages starts a merge of all segments; its absolute value
# is the number of pages per step.
_MERGE = "INSERT INTO {table} ({table}, rank) VALUES ('merge', {pages})"
_MERGED_PAGES = 64
# By itself FTS5 would merge hundreds of pages in one of many transactions, and all writes wait for that one.
# Instead each transaction merges its share: the pages that its words fill, as often as a word is merged on
# its way through the index.
_PAGE_BYTES = 4050
_MERGES = 5
_LEAST_PAGES, _MOST_PAGES = 16, 64  # in one transaction
_WORD_BYTES = 2.0  # of the index for a byte of the words of a text
_CHANGES = "SELECT total_changes()"


def entry(number: int, user_id: str, session_id: str, of: str) -> Entry:
    """Return the row of a text's words. `of` is the text."""
    words = IndexedText.of(of)
    return {
        "number": number,
        "owner": _key(user_id),
        "session": _key(user_id, session_id),
        "words": words.words,
        "counts": words.counts,
    }


class FullTextIndex:
    """The full-text index of one kind of texts, messages or memories. `rows` is its table."""

    def __init__(self, database: Database, rows: Table) -> None:
        self._database = database
        self._rows = rows
        name = index_table_name(rows)
        self._index = table(name, column("rowid"))
        self._match: ColumnElement[str] = raw(name)
        self._index_new = text(
            f"INSERT INTO {name} (rowid, terms) SELECT number, terms FROM {name}_terms WHERE number = :number"  # noqa: S608 - no name is a caller's
        )
        self._merge = text(_MERGE.format(table=name, pages=":pages"))
        self._due_pages = 0.0
        self._count = text(
            f"SELECT term, doc FROM {name}_counts WHERE term IN (SELECT value FROM json_each(:terms))"  # noqa: S608
        )

    async def add(self, connection: AsyncConnection, entries: Sequence[Entry]) -> None:
        """Index texts that are not in the index yet."""
        if entries:
            await connection.execute(insert(self._rows), entries)
            await connection.execute(self._index_new, [{"number": new["number"]} for new in entries])
            await self._merge_some(connection, sum(len(str(new["words"])) for new in entries))

    async def remove(self, connection: AsyncConnection, numbers: Select[int]) -> None:
        """Remove texts from the index, in the transaction that deletes them. Unknown numbers are ignored."""
        # FTS5 first, because it reads the words to remove from the rows.
        await connection.execute(delete(self._index).where(self._index.c.rowid.in_(numbers)))
        removed = delete(self._rows).where(self._rows.c.number.in_(numbers))
        sizes = await connection.execute(removed.returning(func.length(self._rows.c.words)))
        await self._merge_some(connection, sum(sizes.scalars()))

    async def _merge_some(self, connection: AsyncConnection, size: int) -> None:
        """Merge what a transaction that wrote or deleted so many characters of words has to.

        A transaction that is undone leaves a little too much due, which does no harm.
        """
        self._due_pages += _MERGES * (1 + size * _WORD_BYTES / _PAGE_BYTES)
        if self._due_pages >= _LEAST_PAGES:
            pages = min(int(self._due_pages), _MOST_PAGES)
            self._due_pages -= pages
            await connection.execute(self._merge, {"pages": pages})

    def of(self, user_id: str, session_id: str | None, *fits: ColumnElement[bool]) -> "OwnerTextIndex":
        """Return a user's texts for ranking, optionally only of one session and with conditions `fits`."""
        return OwnerTextIndex(
            self, _key(user_id), None if session_id is None else _key(user_id, session_id), fits
        )

    async def count(self, terms: Sequence[str]) -> dict[str, int]:
        async with self._database.read() as connection:
            rows = await connection.execute(self._count, {"terms": json.dumps(terms)})
            return {row[0]: row[1] for row in rows}

    async def find(
        self, match: str, fits: Sequence[ColumnElement[bool]], limit: int
    ) -> Sequence[tuple[int, IndexedText]]:
        query = (
            select(self._rows.c.number, self._rows.c.words, self._rows.c.counts)
            .join_from(self._index, self._rows, self._rows.c.number == self._index.c.rowid)
            .where(self._match.bool_op("MATCH")(match), *fits)
            .order_by(self._index.c.rowid.desc())
            .limit(limit)
        )
        async with self._database.read() as connection:
            return [(row[0], IndexedText(row[1], row[2])) for row in await connection.execute(query)]


class OwnerTextIndex:
    """The texts of one owner, as `ranking.Texts`."""

    def __init__(
        self, words: FullTextIndex, owner: str, session: str | None, fits: Sequence[ColumnElement[bool]]
    ) -> None:
        self._words = words
        self._owner = owner
        self._session = session
        self._fits = fits

    async def frequencies(self, words: Sequence[str]) -> tuple[int, Mapping[str, int]]:
        counts = await self._words.count([self._owner, *(f"{self._owner}{word}" for word in words)])
        total = counts.pop(self._owner, 0)
        return total, {term.removeprefix(self._owner): count for term, count in counts.items()}

    async def having(
        self, words: Sequence[str], without: Sequence[str], limit: int
    ) -> Sequence[tuple[int, IndexedText]]:
        match = self._any(words)
        if without:
            match = f"({match} NOT {self._any(without)})"
        if self._session is not None:
            match = f'"{self._session}" AND {match}'
        return await self._words.find(match, self._fits, limit)

    def _any(self, words: Sequence[str]) -> str:
        """Return the FTS5 query for any of the words, which contain no quotes."""
        terms = [f'"{self._owner}{word}"' for word in words]
        return f"({' OR '.join(terms)})"


def index_table_name(rows: Table) -> str:
    """Return the name of the FTS5 table."""
    return rows.name.replace("_words", "_search")


def _key(*names: str) -> str:
    digest = blake2s(json.dumps(names).encode(), digest_size=10).digest()
    return b32encode(digest).decode().lower()


async def merge_deleted(database: Database) -> None:
    """Remove the words of deleted texts from all indexes, in steps between which other writes can run."""
    for rows in (message_words, memory_words):
        pages = -_MERGED_PAGES
        while await _merged(database, _MERGE.format(table=index_table_name(rows), pages=pages)):
            pages = _MERGED_PAGES


async def _merged(database: Database, step: str) -> bool:
    """Run a merge step; return whether there was anything to merge."""
    async with database.write() as connection:
        before = (await connection.exec_driver_sql(_CHANGES)).scalar_one()
        await connection.exec_driver_sql(step)
        after = (await connection.exec_driver_sql(_CHANGES)).scalar_one()
    # The merge command itself counts as one change.
    return bool(after - before > 1)
