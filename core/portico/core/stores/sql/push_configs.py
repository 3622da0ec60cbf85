"""The store of push configs in a SQL database."""

from collections.abc import Sequence

from sqlalchemy import ColumnElement, Row, and_, case, delete, literal, or_, select, tuple_, update

from portico.core.errors import PushConfigNotFound
from portico.core.stores.disk_reserve import uses_disk_reserve
from portico.core.stores.ports.push_configs import PushRecord
from portico.core.stores.sql.database import Database
from portico.core.stores.sql.schema import push_configs

_COLUMNS = push_configs.c
_KEY = ("run_id", "config_id")


class SqlPushStore:
    """PushStore in a SQL database: one row per config."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def set(self, record: PushRecord) -> None:
        values = {name: getattr(record, name) for name in PushRecord.__slots__}
        insert = self._database.insert(push_configs).values(**values)
        changed = {name: insert.excluded[name] for name in values if name not in _KEY}
        async with self._database.write() as connection:
            await connection.execute(insert.on_conflict_do_update(index_elements=_KEY, set_=changed))

    async def get(self, run_id: str, config_id: str) -> PushRecord:
        async with self._database.read() as connection:
            row = (await connection.execute(select(push_configs).where(_of(run_id, config_id)))).first()
        if row is None:
            raise PushConfigNotFound(config_id)
        return _record(row)

    async def list(self, run_id: str, after: str, limit: int) -> Sequence[PushRecord]:
        query = (
            select(push_configs)
            .where(_COLUMNS.run_id == run_id, _COLUMNS.config_id > after)
            .order_by(_COLUMNS.config_id)
            .limit(limit)
        )
        async with self._database.read() as connection:
            return [_record(row) for row in await connection.execute(query)]

    async def all(self, after: tuple[str, str] | None, limit: int) -> Sequence[PushRecord]:
        place = (_COLUMNS.run_id, _COLUMNS.config_id)
        query = select(push_configs).order_by(*place).limit(limit)
        if after is not None:
            query = query.where(tuple_(*place) > after)
        async with self._database.read() as connection:
            return [_record(row) for row in await connection.execute(query)]

    async def undelivered(self) -> Sequence[PushRecord]:
        query = (
            select(push_configs)
            .where(_COLUMNS.ended.is_(False))
            .order_by(_COLUMNS.created_at, _COLUMNS.run_id, _COLUMNS.config_id)
        )
        async with self._database.read() as connection:
            return [_record(row) for row in await connection.execute(query)]

    @uses_disk_reserve
    async def delete(self, run_id: str, config_id: str) -> bool:
        async with self._database.write() as connection:
            result = await connection.execute(delete(push_configs).where(_of(run_id, config_id)))
        return result.rowcount > 0

    @uses_disk_reserve
    async def delete_all(self, run_ids: Sequence[str]) -> int:
        async with self._database.write() as connection:
            result = await connection.execute(delete(push_configs).where(_COLUMNS.run_id.in_(run_ids)))
        return result.rowcount

    async def acknowledge(
        self, run_id: str, config_id: str, revision: str, delivered: int, ended: bool
    ) -> bool:
        further = case((_COLUMNS.delivered < delivered, delivered), else_=_COLUMNS.delivered)
        change = (
            update(push_configs)
            .where(_of(run_id, config_id), _COLUMNS.revision == revision)
            .values(delivered=further, ended=or_(_COLUMNS.ended, literal(ended)))
        )
        async with self._database.write() as connection:
            return (await connection.execute(change)).rowcount > 0


def _of(run_id: str, config_id: str) -> ColumnElement[bool]:
    return and_(_COLUMNS.run_id == run_id, _COLUMNS.config_id == config_id)


def _record(row: Row[tuple[object, ...]]) -> PushRecord:
    return PushRecord(**row._mapping)
