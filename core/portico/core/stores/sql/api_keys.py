"""The store of API keys in a SQL database."""

from collections.abc import Sequence

from sqlalchemy import delete, insert, select, update

from portico.core.stores.disk_reserve import uses_disk_reserve
from portico.core.stores.ports.api_keys import KeyRecord
from portico.core.stores.sql.database import Database
from portico.core.stores.sql.schema import api_keys


class SqlKeyStore:
    """KeyStore in a SQL database: one row per key."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def add(self, record: KeyRecord) -> None:
        values = {name: getattr(record, name) for name in KeyRecord.__slots__}
        async with self._database.write() as connection:
            await connection.execute(insert(api_keys).values(**values))

    async def all(self) -> Sequence[KeyRecord]:
        async with self._database.read() as connection:
            return [KeyRecord(**row._mapping) for row in await connection.execute(select(api_keys))]

    @uses_disk_reserve
    async def revoke(self, key_id: str, at: float) -> None:
        which = (api_keys.c.key_id == key_id) & api_keys.c.revoked_at.is_(None)
        async with self._database.write() as connection:
            await connection.execute(update(api_keys).where(which).values(revoked_at=at))

    @uses_disk_reserve
    async def delete(self, key_ids: Sequence[str]) -> None:
        async with self._database.write() as connection:
            await connection.execute(delete(api_keys).where(api_keys.c.key_id.in_(key_ids)))
