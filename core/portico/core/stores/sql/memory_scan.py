"""Looks through one owner's memories for those that fit, in short reads.

A filter that few fit reads many. One statement for all of them would keep a connection from everybody else
for as long, and a delete would keep the writers.
"""

from collections.abc import AsyncIterator, Sequence

from sqlalchemy import ColumnElement, select, tuple_

from portico.core.stores.sql.database import Database
from portico.core.stores.sql.schema import memories

FIRST_ROWS = 200  # in the first read; in the next twice as many
MOST_ROWS = 6400

_PLACE = (memories.c.created_at, memories.c.memory_id)


async def scan(
    database: Database,
    where: ColumnElement[bool],
    fits: Sequence[ColumnElement[bool]],
    before: tuple[float, str] | None = None,
) -> AsyncIterator[Sequence[int]]:
    """The numbers of those of the owner, or session, that fit, newest first, read by read."""
    newest = tuple(column.desc() for column in _PLACE)
    rows = FIRST_ROWS
    while True:
        left = where if before is None else where & (tuple_(*_PLACE) < before)
        async with database.read() as connection:
            # Where this read ends, by the index alone.
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
