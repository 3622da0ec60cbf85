"""The store of once results in memory; its content is lost when the process ends."""

from collections.abc import Callable, Sequence

from portico.core.errors import RunNotFound


class MemoryResultStore:
    """ResultStore in memory. `owner_of` returns the user of a run, or None if the run does not exist."""

    def __init__(self, owner_of: Callable[[str], str | None]) -> None:
        self._owner_of = owner_of
        self._results: dict[str, dict[str, bytes]] = {}

    async def get(self, run_id: str, key: str) -> bytes | None:
        return self._results.get(run_id, {}).get(key)

    async def count(self, run_id: str) -> int:
        return len(self._results.get(run_id, ()))

    async def keep(self, run_id: str, key: str, result: bytes) -> None:
        if self._owner_of(run_id) is None:
            raise RunNotFound(run_id)
        self._results.setdefault(run_id, {}).setdefault(key, result)

    async def delete_all(self, run_ids: Sequence[str]) -> int:
        return sum(len(self._results.pop(run_id, ())) for run_id in dict.fromkeys(run_ids))

    def stored_bytes(self, has: Callable[[str], bool]) -> int:
        return sum(
            len(result)
            for run_id, results in self._results.items()
            if (owner := self._owner_of(run_id)) is not None and has(owner)
            for result in results.values()
        )
