"""The store of states in memory; its content is lost when the process ends."""

import time
from collections.abc import Callable, Sequence
from uuid import uuid4

from portico.core.errors import EtagMismatch, SessionNotFound, StateNotFound
from portico.core.stores.deletion_steps import batches
from portico.core.stores.ports.stores import StateRecord

_Rounds = dict[int, StateRecord]


class MemoryStateStore:
    """StateStore in memory: states by user, then session and part, then round.

    It calls `has_session` with user id and session id before it saves a part with a name.
    """

    def __init__(self, has_session: Callable[[str, str], bool]) -> None:
        self._has_session = has_session
        self._states: dict[str, dict[tuple[str, str], _Rounds]] = {}

    async def save(
        self,
        user_id: str,
        session_id: str,
        round_id: int | None,
        state: str,
        etag: str | None,
        part: str = "",
    ) -> StateRecord:
        if part and not self._has_session(user_id, session_id):
            raise SessionNotFound(session_id)
        rounds = self._states.get(user_id, {}).get((session_id, part), {})
        latest = max(rounds, default=0)
        stored = rounds.get(latest if round_id is None else round_id)
        if etag is not None and etag != ("*" if stored is None else stored.etag):
            raise EtagMismatch("" if stored is None else stored.etag)
        number = latest + 1 if round_id is None else round_id
        record = StateRecord(user_id, session_id, number, state, uuid4().hex, time.time())
        self._states.setdefault(user_id, {}).setdefault((session_id, part), {})[number] = record
        return record

    async def get(self, user_id: str, session_id: str, round_id: int | None, part: str = "") -> StateRecord:
        rounds = self._states.get(user_id, {}).get((session_id, part), {})
        number = max(rounds, default=0) if round_id is None else round_id
        if number not in rounds:
            raise StateNotFound(session_id)
        return rounds[number]

    async def list(
        self, user_id: str, session_id: str | None, after: tuple[str, int] | None, limit: int
    ) -> Sequence[StateRecord]:
        found = sorted(
            (record.session_id, record.round_id, record.etag, record.updated_at)
            for (session, part), rounds in self._states.get(user_id, {}).items()
            if not part and session_id in (None, session)
            for record in rounds.values()
            if after is None or (record.session_id, record.round_id) > after
        )
        return [
            StateRecord(user_id, session, number, "", etag, updated_at)
            for session, number, etag, updated_at in found[:limit]
        ]

    async def delete(
        self, user_id: str, session_id: str | None, round_id: int | None, part: str | None = None
    ) -> int:
        kept = self._states.get(user_id, {})
        doomed = [
            (place, number)
            for place, rounds in kept.items()
            if session_id in (None, place[0]) and part in (None, place[1])
            for number in rounds
            if round_id in (None, number)
        ]
        count = 0
        async for place, number in batches(doomed):
            if number in self._states.get(user_id, {}).get(place, {}):
                self._remove(user_id, place, number)
                count += 1
        return count

    def session_deleted(self, user_id: str, session_id: str) -> None:
        """Delete all states of a deleted session."""
        kept = self._states.get(user_id, {})
        for place in [place for place in kept if place[0] == session_id]:
            for number in list(kept[place]):
                self._remove(user_id, place, number)

    async def expire(self, before: float, limit: int) -> int:
        doomed = [
            (user_id, place, number)
            for user_id, kept in self._states.items()
            for place, rounds in kept.items()
            for number, record in rounds.items()
            if record.updated_at < before
        ][:limit]
        for user_id, place, number in doomed:
            self._remove(user_id, place, number)
        return len(doomed)

    def stored_bytes(self, has: Callable[[str], bool]) -> int:
        return sum(
            len(record.state.encode())
            for owner, kept in self._states.items()
            if has(owner)
            for rounds in kept.values()
            for record in rounds.values()
        )

    def _remove(self, user_id: str, place: tuple[str, str], number: int) -> None:
        kept = self._states[user_id]
        del kept[place][number]
        if not kept[place]:
            del kept[place]
        if not kept:
            del self._states[user_id]
