"""The store of once results in a SQL database."""

from collections.abc import Sequence

from sqlalchemy import exists, func, literal, select

from portico.core.errors import RunNotFound
from portico.core.stores.deletion_steps import STEP_ROWS, next_batch
from portico.core.stores.disk_reserve import uses_disk_reserve
from portico.core.stores.sql.database import Database
from portico.core.stores.sql.row_deletion import delete_rows_stepwise
from portico.core.stores.sql.schema import run_results, runs

_COLUMNS = run_results.c
_KEY = (_COLUMNS.run_id, _COLUMNS.key)


class SqlResultStore:
    """ResultStore in a SQL database: one row per result."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def get(self, run_id: str, key: str) -> bytes | None:
        query = select(_COLUMNS.result).where(_COLUMNS.run_id == run_id, _COLUMNS.key == key)
        async with self._database.read() as connection:
            found: bytes | None = (await connection.execute(query)).scalar()
        return found

    async def count(self, run_id: str) -> int:
        query = select(func.count()).where(_COLUMNS.run_id == run_id)
        async with self._database.read() as connection:
            return (await connection.execute(query)).scalar() or 0

    async def keep(self, run_id: str, key: str, result: bytes) -> None:
        there = exists().where(runs.c.run_id == run_id)
        row = select(literal(run_id), literal(key), literal(result)).where(there)
        insert = self._database.insert(run_results).from_select(["run_id", "key", "result"], row)
        async with self._database.write() as connection:
            done = await connection.execute(insert.on_conflict_do_nothing())
            if not done.rowcount and not (await connection.execute(select(there))).scalar():
                raise RunNotFound(run_id)

    async def delete_all(self, run_ids: Sequence[str]) -> int:
        number = 0
        whole = False
        while not whole:
            found, whole = await self._delete_some(run_ids)
            number += found
        return number

    @uses_disk_reserve
    async def _delete_some(self, run_ids: Sequence[str]) -> tuple[int, bool]:
        """Delete some results in one transaction; return how many, and whether none are left."""
        doomed = _COLUMNS.run_id.in_(run_ids)
        sizes = select(*_KEY, func.length(_COLUMNS.result)).where(doomed).limit(STEP_ROWS + 1)
        async with self._database.write() as connection:
            rows = (await connection.execute(sizes)).all()
            step = next_batch((tuple(row[:-1]), row[-1]) for row in rows[:STEP_ROWS])
            await delete_rows_stepwise(connection, run_results, _KEY, step)
        return len(step), len(step) == len(rows)
