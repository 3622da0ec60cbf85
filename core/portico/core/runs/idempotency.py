"""Idempotency keys: find the run of a repeated request.

Keys are stored with their runs. Recent keys are also in memory, which orders two concurrent repeats. Keys
that begin with "auto:" are looked up in memory only: clients generate them for their own retries, which come
within seconds.
"""

import time
from collections import OrderedDict
from collections.abc import Set

from portico.core.errors import IdempotencyConflict
from portico.core.log.encoding import DIGEST_BYTES, RunRequest
from portico.core.stores.ports.stores import AUTO_PREFIX, RunLog

RECENT_SECONDS = 90.0


class IdempotencyIndex:
    """Finds the run of an idempotency key. Owned by the engine."""

    def __init__(self, runs: RunLog) -> None:
        self._runs = runs
        self._recent: OrderedDict[tuple[str, str], tuple[str, bytes, float]] = OrderedDict()

    async def load(self) -> None:
        """Load the recent automatic keys of an earlier process."""
        since = time.time() - RECENT_SECONDS
        for record in await self._runs.recent_keys(AUTO_PREFIX, since):
            key = (record.user_id, record.idempotency_key or "")
            self._recent[key] = (record.run_id, record.request[:DIGEST_BYTES], time.monotonic())

    def remember(self, start: RunRequest, run_id: str) -> None:
        """Record the key of a new run; drop keys older than WINDOW_SECONDS."""
        if not start.idempotency_key:
            return
        now = time.monotonic()
        self._recent[_key(start)] = (run_id, start.digest, now)
        while self._recent:
            oldest = next(iter(self._recent.values()))
            if now - oldest[2] < RECENT_SECONDS:
                break
            self._recent.popitem(last=False)

    def needs_lookup(self, start: RunRequest) -> bool:
        """Whether only the store can tell whether the key is used."""
        key = start.idempotency_key
        return bool(key) and not key.startswith(AUTO_PREFIX) and _key(start) not in self._recent

    def run_id_of(self, start: RunRequest) -> str:
        """The run of the key in memory, whatever its request; empty if unknown."""
        found = self._recent.get(_key(start)) if start.idempotency_key else None
        return "" if found is None else found[0]

    def find_recent(self, start: RunRequest) -> str | None:
        """The run of the key in memory. Raises IdempotencyConflict if its request differs."""
        found = self._recent.get(_key(start))
        return None if found is None else _check_same_request(start, found[0], found[1])

    async def find_stored(self, start: RunRequest) -> str | None:
        """The run of the key in the store. Raises IdempotencyConflict if its request differs."""
        record = await self._runs.get_by_idempotency_key(*_key(start))
        return (
            None
            if record is None
            else _check_same_request(start, record.run_id, record.request[:DIGEST_BYTES])
        )

    def forget(self, run_ids: Set[str]) -> None:
        """Free the keys of deleted runs."""
        for key in [key for key, (run_id, _, _) in self._recent.items() if run_id in run_ids]:
            del self._recent[key]


def _key(start: RunRequest) -> tuple[str, str]:
    return start.owner, start.idempotency_key


def _check_same_request(start: RunRequest, run_id: str, digest: bytes) -> str:
    if digest != start.digest:
        raise IdempotencyConflict(run_id)
    return run_id
