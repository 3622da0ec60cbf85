"""The run log in memory, for development and tests; its content is lost when the process ends."""

from bisect import bisect_left, insort
from collections.abc import Callable, Iterable, Sequence
from itertools import islice

from portico.core.errors import RunNotFound, StoreUnavailable
from portico.core.stores.ports.stores import (
    Chunk,
    Commit,
    NewMessage,
    NewSession,
    RunFilter,
    RunRecord,
)
from portico.model.run_status import UNFINISHED_STATUSES


class MemoryRunLog:
    """A RunLog in memory. It passes the messages and sessions of a commit to `keep_messages`."""

    def __init__(self, keep_messages: Callable[[Sequence[NewMessage], Sequence[NewSession]], None]) -> None:
        self._keep_messages = keep_messages
        self._runs: dict[str, RunRecord] = {}
        self._by_time: list[tuple[float, str]] = []
        self._by_key: dict[tuple[str, str], list[tuple[float, str]]] = {}
        self._chunks: dict[str, list[Chunk]] = {}
        self._closed = False

    async def commit(self, commit: Commit) -> None:
        self._check_open()
        for run in commit.runs:
            if run.run_id not in self._runs:
                insort(self._by_time, _place(run))
                if run.idempotency_key is not None:
                    insort(self._by_key.setdefault((run.user_id, run.idempotency_key), []), _place(run))
            self._runs[run.run_id] = run
        for chunk in commit.chunks:
            chunks = self._chunks.setdefault(chunk.run_id, [])
            place = bisect_left(chunks, chunk.first, key=_first)
            if place == len(chunks) or chunks[place].first != chunk.first:
                chunks.insert(place, chunk)
        self._keep_messages(commit.messages, commit.sessions)

    async def get(self, run_id: str) -> RunRecord:
        self._check_open()
        try:
            return self._runs[run_id]
        except KeyError:
            raise RunNotFound(run_id) from None

    async def get_by_idempotency_key(self, user_id: str, key: str) -> RunRecord | None:
        self._check_open()
        places = self._by_key.get((user_id, key))
        return self._runs[places[0][1]] if places else None

    async def list(
        self, where: RunFilter, before: tuple[float, str] | None, limit: int, *, by_status: bool = False
    ) -> Sequence[RunRecord]:
        self._check_open()
        if by_status:
            return self._by_status(where, before)[:limit]
        end = len(self._by_time) if before is None else bisect_left(self._by_time, before)
        found: list[RunRecord] = []
        for place in range(end - 1, -1, -1):
            if len(found) == limit:
                break
            run = self._runs[self._by_time[place][1]]
            if not run.ephemeral and _matches(run, where):
                found.append(run)
        return found

    async def count(self, where: RunFilter) -> int:
        self._check_open()
        return sum(not run.ephemeral and _matches(run, where) for run in self._runs.values())

    def _by_status(self, where: RunFilter, before: tuple[float, str] | None) -> Sequence[RunRecord]:
        found = [
            run
            for run in self._runs.values()
            if not run.ephemeral
            and _matches(run, where)
            and (before is None or (run.updated_at, run.run_id) < before)
        ]
        return sorted(found, key=lambda run: (run.updated_at, run.run_id), reverse=True)

    async def read(self, run_id: str, after: int, max_bytes: int) -> Sequence[Chunk]:
        self._check_open()
        chunks = self._chunks.get(run_id, [])
        found: list[Chunk] = []
        size = 0
        for place in range(bisect_left(chunks, after + 1, key=_last), len(chunks)):
            size += len(chunks[place].data)
            if found and size > max_bytes:
                break
            found.append(chunks[place])
        return found

    async def last(self, run_id: str) -> Chunk | None:
        self._check_open()
        chunks = self._chunks.get(run_id)
        return chunks[-1] if chunks else None

    async def recent_keys(self, prefix: str, since: float) -> Sequence[RunRecord]:
        self._check_open()
        return [
            run
            for run in self._oldest_first(bisect_left(self._by_time, (since, "")))
            if run.idempotency_key is not None and run.idempotency_key.startswith(prefix)
        ]

    async def unfinished(self) -> Sequence[RunRecord]:
        self._check_open()
        return [run for run in self._runs.values() if run.status in UNFINISHED_STATUSES]

    async def ephemeral_leftovers(self) -> Sequence[RunRecord]:
        self._check_open()
        return [
            run for run in self._oldest_first() if run.ephemeral and run.status not in UNFINISHED_STATUSES
        ]

    async def delete(self, run_id: str) -> None:
        run = await self.get(run_id)
        del self._runs[run_id]
        del self._by_time[bisect_left(self._by_time, _place(run))]
        if run.idempotency_key is not None:
            key = run.user_id, run.idempotency_key
            self._by_key[key].remove(_place(run))
            if not self._by_key[key]:
                del self._by_key[key]
        self._chunks.pop(run_id, None)

    async def delete_all(self, run_ids: Sequence[str]) -> int:
        self._check_open()
        found = [run_id for run_id in dict.fromkeys(run_ids) if run_id in self._runs]
        for run_id in found:
            await self.delete(run_id)
        return len(found)

    async def of_user(self, user_id: str, limit: int) -> Sequence[str]:
        self._check_open()
        return [run.run_id for run in islice((r for r in self._runs.values() if r.user_id == user_id), limit)]

    async def ended(self, before: float, limit: int) -> Sequence[str]:
        self._check_open()
        over = (
            run.run_id
            for run in self._runs.values()
            if run.updated_at < before and run.status not in UNFINISHED_STATUSES
        )
        return list(islice(over, limit))

    async def close(self) -> None:
        self._closed = True

    def owner_of(self, run_id: str) -> str | None:
        """Return the user of a run; None if the run does not exist."""
        run = self._runs.get(run_id)
        return None if run is None else run.user_id

    def stored_bytes(self, has: Callable[[str], bool]) -> int:
        return sum(
            len(run.request)
            + len(run.summary)
            + len(run.answers)
            + sum(len(chunk.data) for chunk in self._chunks.get(run.run_id, ()))
            for run in self._runs.values()
            if has(run.user_id)
        )

    def _oldest_first(self, start: int = 0) -> Iterable[RunRecord]:
        return (self._runs[self._by_time[place][1]] for place in range(start, len(self._by_time)))

    def _check_open(self) -> None:
        if self._closed:
            raise StoreUnavailable("the store is closed")


def _place(run: RunRecord) -> tuple[float, str]:
    return run.created_at, run.run_id


def _first(chunk: Chunk) -> int:
    return chunk.first


def _last(chunk: Chunk) -> int:
    return chunk.last


def _matches(run: RunRecord, where: RunFilter) -> bool:
    return (
        where.agent_name in (None, run.agent_name)
        and where.user_id in (None, run.user_id)
        and where.session_id in (None, run.session_id)
        and (not where.statuses or run.status in where.statuses)
        and (where.created_from is None or run.created_at >= where.created_from)
        and (where.created_until is None or run.created_at < where.created_until)
        and (where.status_from is None or run.updated_at >= where.status_from)
    )
