"""The store of push configs in memory; its content is lost when the process ends."""

from collections.abc import Sequence
from dataclasses import replace

from portico.core.errors import PushConfigNotFound
from portico.core.stores.ports.push_configs import PushRecord


class MemoryPushStore:
    """PushStore in memory: configs by run and id."""

    def __init__(self) -> None:
        self._configs: dict[tuple[str, str], PushRecord] = {}

    async def set(self, record: PushRecord) -> None:
        self._configs[record.run_id, record.config_id] = record

    async def get(self, run_id: str, config_id: str) -> PushRecord:
        try:
            return self._configs[run_id, config_id]
        except KeyError:
            raise PushConfigNotFound(config_id) from None

    async def list(self, run_id: str, after: str, limit: int) -> Sequence[PushRecord]:
        ids = sorted(id for run, id in self._configs if run == run_id and id > after)
        return [self._configs[run_id, id] for id in ids[:limit]]

    async def all(self, after: tuple[str, str] | None, limit: int) -> Sequence[PushRecord]:
        places = sorted(place for place in self._configs if after is None or place > after)
        return [self._configs[place] for place in places[:limit]]

    async def undelivered(self) -> Sequence[PushRecord]:
        waiting = [record for record in self._configs.values() if not record.ended]
        return sorted(waiting, key=lambda record: (record.created_at, record.run_id, record.config_id))

    async def delete(self, run_id: str, config_id: str) -> bool:
        return self._configs.pop((run_id, config_id), None) is not None

    async def delete_all(self, run_ids: Sequence[str]) -> int:
        doomed = [key for key in self._configs if key[0] in set(run_ids)]
        for key in doomed:
            del self._configs[key]
        return len(doomed)

    async def acknowledge(
        self, run_id: str, config_id: str, revision: str, delivered: int, ended: bool
    ) -> bool:
        record = self._configs.get((run_id, config_id))
        if record is None or record.revision != revision:
            return False
        self._configs[run_id, config_id] = replace(
            record, delivered=max(record.delivered, delivered), ended=record.ended or ended
        )
        return True
