"""Removes states from a SQL database, as much as one transaction may."""

from sqlalchemy import ColumnElement, LargeBinary, cast, delete, func, select, tuple_
from sqlalchemy.ext.asyncio import AsyncConnection

from portico.core.stores.schema import states
from portico.core.stores.steps import STEP_ROWS, one_step

_KEY = (states.c.user_id, states.c.session_id, states.c.part, states.c.round_id)


async def delete_states(
    connection: AsyncConnection, doomed: ColumnElement[bool], limit: int = STEP_ROWS
) -> tuple[int, bool]:
    """How many it removed, and whether those were all."""
    sizes = select(*_KEY, func.length(cast(states.c.state, LargeBinary))).where(doomed).limit(limit + 1)
    rows = (await connection.execute(sizes)).all()
    step = one_step((tuple(row[:-1]), row[-1]) for row in rows[:limit])
    if step:
        await connection.execute(delete(states).where(tuple_(*_KEY).in_(step)))
    return len(step), len(step) == len(rows)
