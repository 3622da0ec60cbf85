"""Deletes rows from a SQL database, at most as many as one transaction may delete."""

from collections.abc import Sequence

from sqlalchemy import Column, ColumnElement, LargeBinary, Table, and_, bindparam, cast, delete, func, select
from sqlalchemy.ext.asyncio import AsyncConnection

from portico.core.stores.deletion_steps import STEP_ROWS, next_batch
from portico.core.stores.sql.schema import states

_KEY = (states.c.user_id, states.c.session_id, states.c.part, states.c.round_id)


async def delete_rows_stepwise(
    connection: AsyncConnection,
    table: Table,
    key: Sequence["Column[object]"],
    rows: Sequence[tuple[object, ...]],
) -> None:
    """Delete the rows with these keys, one statement per row.

    For a list of keys with several columns SQLite would scan the whole table.
    """
    this = and_(*(column == bindparam(f"key_{column.name}") for column in key))
    names = [f"key_{column.name}" for column in key]
    if rows:
        await connection.execute(
            delete(table).where(this), [dict(zip(names, row, strict=True)) for row in rows]
        )


async def delete_states(
    connection: AsyncConnection, doomed: ColumnElement[bool], limit: int = STEP_ROWS
) -> tuple[int, bool]:
    """Delete some of the matching states; return how many, and whether none are left."""
    sizes = select(*_KEY, func.length(cast(states.c.state, LargeBinary))).where(doomed).limit(limit + 1)
    rows = (await connection.execute(sizes)).all()
    step = next_batch((tuple(row[:-1]), row[-1]) for row in rows[:limit])
    await delete_rows_stepwise(connection, states, _KEY, step)
    return len(step), len(step) == len(rows)
