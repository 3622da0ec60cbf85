"""How much is stored in a SQL database. It reads by user, not one row of anybody else's, and off the log's
own threads."""

from collections.abc import Awaitable, Callable, Iterator, Sequence

from sqlalchemy import ColumnElement, LargeBinary, Select, and_, cast, func, not_, select

from portico.core.stores.base import UNFINISHED_STATUSES
from portico.core.stores.database import Database
from portico.core.stores.schema import memories, messages, run_events, run_results, runs, sessions, states
from portico.core.stores.sizes import Whose


class SqlSizeStore:
    """`tails` tells the size of what the log has of runs beside its rows."""

    def __init__(self, database: Database, tails: Callable[[Sequence[str]], Awaitable[int]]) -> None:
        self._database = database
        self._tails = tails

    async def stored_bytes(self, whose: Whose) -> int:
        unfinished = select(runs.c.run_id).where(
            runs.c.status.in_(UNFINISHED_STATUSES), _is(runs.c.user_id, whose)
        )
        async with self._database.read() as connection:
            live = list((await connection.execute(unfinished)).scalars())
            # Tails before rows: what moves meanwhile is in both, not in none.
            size = await self._tails(live)
            for query in self._sums(whose):
                size += (await connection.execute(query)).scalar() or 0
        return size

    def _sums(self, whose: Whose) -> Iterator["Select[int]"]:
        binary, text = func.length, self._octets
        mine = select(runs.c.run_id).where(_is(runs.c.user_id, whose))
        for sizes, condition in (
            (
                (binary(runs.c.request), binary(runs.c.summary), binary(runs.c.answers)),
                _is(runs.c.user_id, whose),
            ),
            ((binary(run_events.c.data),), run_events.c.run_id.in_(mine)),
            ((binary(run_results.c.result),), run_results.c.run_id.in_(mine)),
            # Their texts are in their payloads.
            ((binary(messages.c.payload),), _is(messages.c.user_id, whose)),
            ((text(sessions.c.metadata),), _is(sessions.c.user_id, whose)),
            ((text(states.c.state),), _is(states.c.user_id, whose)),
            ((text(memories.c.text), text(memories.c.metadata)), _is(memories.c.user_id, whose)),
        ):
            total: ColumnElement[int] = sizes[0]
            for size in sizes[1:]:
                total = total + size
            yield select(func.sum(total)).where(condition)

    def _octets(self, column: ColumnElement[str]) -> ColumnElement[int]:
        if self._database.dialect.name == "postgresql":
            return func.octet_length(column)
        return func.length(cast(column, LargeBinary))  # SQLite before 3.43 has no octet_length


def _is(column: ColumnElement[str], whose: Whose) -> ColumnElement[bool]:
    if not whose.tenant:
        return column == whose.name
    first, behind = whose.between
    inside = and_(column >= first, column < behind)
    return inside if whose.name else not_(inside)
