"""The store of API keys in memory; its content is lost when the process ends."""

from collections.abc import Sequence
from dataclasses import replace

from portico.core.stores.ports.api_keys import KeyRecord


class MemoryKeyStore:
    """KeyStore in memory: keys by id."""

    def __init__(self) -> None:
        self._keys: dict[str, KeyRecord] = {}

    async def add(self, record: KeyRecord) -> None:
        self._keys[record.key_id] = record

    async def all(self) -> Sequence[KeyRecord]:
        return list(self._keys.values())

    async def revoke(self, key_id: str, at: float) -> None:
        record = self._keys[key_id]
        if record.revoked_at is None:
            self._keys[key_id] = replace(record, revoked_at=at)

    async def delete(self, key_ids: Sequence[str]) -> None:
        for key_id in key_ids:
            self._keys.pop(key_id, None)
