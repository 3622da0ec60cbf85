"""Scans one owner's memories for those that match a filter, in several short reads.

A filter that matches few memories reads many. A single statement would occupy a connection for the whole
time, and in a delete it would block all writers.
"""

from collections.abc import AsyncIterator, Sequence

from sqlalchemy import ColumnElement, select, tuple_

from portico.core.stores.sql.database import Database
from portico.core.stores.sql.schema import memories

FIRST_ROWS = 200  # rows of the first read; each further read doubles them
MOST_ROWS = 6400

_PLACE = (memories.c.created_at, memories.c.memory_id)


async def scan(
    database: Database,
    where: ColumnElement[bool],
    fits: Sequence[ColumnElement[bool]],
    before: tuple[float, str] | None = None,
) -> AsyncIterator[Sequence[int]]:
    """Yield the numbers of matching memories, newest first, one list per read.

    Args:
        database: The database.
        where: Condition on the owner, and on the session if wanted.
        fits: Conditions of the filter.
        before: Only memories whose (created_at, memory_id) is less.
    """
    newest = tuple(column.desc() for column in _PLACE)
    rows = FIRST_ROWS
    while True:
        left = where if before is None else where & (tuple_(*_PLACE) < before)
        async with database.read() as connection:
            # Find the end of this read by the index alone.
            last = select(*_PLACE).where(left).order_by(*newest).offset(rows - 1).limit(1)
            end = (await connection.execute(last)).first()
            if end is not None:
                left &= tuple_(*_PLACE) >= tuple(end)
            found = select(memories.c.number).where(left, *fits).order_by(*newest)
            numbers = (await connection.execute(found)).scalars().all()
        yield numbers
        if end is None:
            return
        before = end[0], end[1]
        rows = min(rows * 2, MOST_ROWS)
