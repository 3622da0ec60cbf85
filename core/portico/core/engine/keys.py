"""Idempotency keys: which run a repeated request means.

Keys live with their runs in the store. Recent ones are also in memory, which
settles two repeats that race, and is all there is for keys that begin with
"auto:": clients make those for their own retries, which come within seconds.
"""

import time
from collections import OrderedDict
from collections.abc import Set

from portico.core.errors import IdempotencyConflict
from portico.core.log.encoding import DIGEST_BYTES, StartRequest
from portico.core.stores.ports.stores import AUTO_PREFIX, RunLog

WINDOW_SECONDS = 90.0


class RecentKeys:
    """Finds the run of a key. Owned by the engine."""

    def __init__(self, runs: RunLog) -> None:
        self._runs = runs
        self._recent: OrderedDict[tuple[str, str], tuple[str, bytes, float]] = OrderedDict()

    async def load(self) -> None:
        """Remember the automatic keys of a process before this one."""
        since = time.time() - WINDOW_SECONDS
        for record in await self._runs.recent_keys(AUTO_PREFIX, since):
            key = (record.user_id, record.idempotency_key or "")
            self._recent[key] = (record.run_id, record.request[:DIGEST_BYTES], time.monotonic())

    def remember(self, start: StartRequest, run_id: str) -> None:
        if not start.idempotency_key:
            return
        now = time.monotonic()
        self._recent[_key(start)] = (run_id, start.digest, now)
        while self._recent:
            oldest = next(iter(self._recent.values()))
            if now - oldest[2] < WINDOW_SECONDS:
                break
            self._recent.popitem(last=False)

    def needs_lookup(self, start: StartRequest) -> bool:
        """Whether the key may be of a run that only the store knows."""
        key = start.idempotency_key
        return bool(key) and not key.startswith(AUTO_PREFIX) and _key(start) not in self._recent

    def run_of(self, start: StartRequest) -> str:
        """The run that memory knows the key of, whatever it was asked; empty if it knows none."""
        found = self._recent.get(_key(start)) if start.idempotency_key else None
        return "" if found is None else found[0]

    def recent(self, start: StartRequest) -> str | None:
        """The run that memory knows the key of. Raises IdempotencyConflict if it was asked something else."""
        found = self._recent.get(_key(start))
        return None if found is None else _same(start, found[0], found[1])

    async def stored(self, start: StartRequest) -> str | None:
        """The same, of the store."""
        record = await self._runs.get_by_idempotency_key(*_key(start))
        return None if record is None else _same(start, record.run_id, record.request[:DIGEST_BYTES])

    def forget(self, run_ids: Set[str]) -> None:
        """The runs are deleted; their keys are free."""
        for key in [key for key, (run_id, _, _) in self._recent.items() if run_id in run_ids]:
            del self._recent[key]


def _key(start: StartRequest) -> tuple[str, str]:
    return start.owner, start.idempotency_key


def _same(start: StartRequest, run_id: str, digest: bytes) -> str:
    if digest != start.digest:
        raise IdempotencyConflict(run_id)
    return run_id
