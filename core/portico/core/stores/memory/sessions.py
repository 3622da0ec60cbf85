"""The store of sessions and messages in memory; its content is lost when the process ends."""

import asyncio
import time
from bisect import bisect_left, bisect_right
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from heapq import nlargest, nsmallest
from itertools import islice

from portico.core.errors import MessageNotFound, SessionExists, SessionNotFound
from portico.core.stores.deletion_steps import batches
from portico.core.stores.ports.stores import MessageHit, NewMessage, NewSession, SessionRecord, StoredMessage
from portico.core.stores.search.ranking import add_following_scores, scores
from portico.core.stores.search.word_index import WordIndex

_BATCH = 100  # texts indexed before other tasks of the event loop run


@dataclass(slots=True)
class _Session:
    created_at: float
    updated_at: float
    metadata: str = ""
    messages: dict[str, StoredMessage] = field(default_factory=dict)  # by id, in order
    kinds: dict[str, tuple[str, str]] = field(default_factory=dict)  # role and type by message id


@dataclass(slots=True)
class _User:
    sessions: dict[str, _Session] = field(default_factory=dict)
    by_position: dict[int, StoredMessage] = field(default_factory=dict)
    index: WordIndex = field(default_factory=WordIndex)  # by position
    pending: dict[tuple[str, str], str] = field(default_factory=dict)  # texts that are not yet in the index


class MemorySessionStore:
    """SessionStore in memory. Texts are indexed by the first search of their user."""

    def __init__(self) -> None:
        # Called with the user id and the id of each deleted session.
        self.deleted: Callable[[str, str], None] = lambda user_id, session_id: None
        self._users: dict[str, _User] = {}
        self._position = 0

    def keep(self, messages: Sequence[NewMessage], new: Sequence[NewSession]) -> None:
        """Create the sessions and append the messages that a run log commits."""
        for user_id, session_id, created_at in new:
            sessions = self._users.setdefault(user_id, _User()).sessions
            sessions.setdefault(session_id, _Session(created_at, created_at))
        for message in messages:
            user = self._users.get(message.user_id, _User())
            session = user.sessions.get(message.session_id)
            if session is None:
                continue
            session.updated_at = max(session.updated_at, message.created_at)
            self._append(message.session_id, message, user)

    def stored_bytes(self, has: Callable[[str], bool]) -> int:
        sessions = [
            session for owner, user in self._users.items() if has(owner) for session in user.sessions.values()
        ]
        return sum(len(session.metadata.encode()) for session in sessions) + sum(
            len(message.payload) for session in sessions for message in session.messages.values()
        )

    def has(self, user_id: str, session_id: str) -> bool:
        return user_id in self._users and session_id in self._users[user_id].sessions

    async def create(self, user_id: str, session_id: str, metadata: str) -> SessionRecord:
        sessions = self._users.setdefault(user_id, _User()).sessions
        if session_id in sessions:
            raise SessionExists(session_id)
        now = time.time()
        sessions[session_id] = _Session(now, now, metadata)
        return SessionRecord(user_id, session_id, now, now, 0, metadata)

    async def get(self, user_id: str, session_id: str) -> SessionRecord:
        return _record(user_id, session_id, self._session(user_id, session_id))

    async def update(self, user_id: str, session_id: str, metadata: str) -> SessionRecord:
        session = self._session(user_id, session_id)
        session.metadata = metadata
        return _record(user_id, session_id, session)

    async def list(
        self, user_id: str, before: tuple[float, str] | None, limit: int
    ) -> Sequence[SessionRecord]:
        sessions = self._users.get(user_id, _User()).sessions
        places = ((session.updated_at, session_id) for session_id, session in sessions.items())
        return [
            _record(user_id, session_id, sessions[session_id])
            for _, session_id in nlargest(
                limit, (place for place in places if before is None or place < before)
            )
        ]

    async def delete(self, user_id: str, session_id: str, *, idle_since: float | None = None) -> None:
        session = self._session(user_id, session_id)
        if idle_since is not None and session.updated_at >= idle_since:
            raise SessionNotFound(session_id)
        user = self._users[user_id]
        while session.messages:
            async for message_id in batches(list(session.messages)):
                message = session.messages.pop(message_id, None)
                if message is not None:
                    _forget(user, message)
        if user.sessions.get(session_id) is not session:
            raise SessionNotFound(session_id)  # another call has deleted it in the meantime
        del user.sessions[session_id]
        self.deleted(user_id, session_id)

    async def idle(self, before: float, after: SessionRecord | None, limit: int) -> Sequence[SessionRecord]:
        places = (
            (session.updated_at, user_id, session_id, session.created_at)
            for user_id, user in self._users.items()
            for session_id, session in user.sessions.items()
            if session.updated_at < before
        )
        since = None if after is None else (after.updated_at, after.user_id, after.session_id)
        found = nsmallest(limit, (place for place in places if since is None or place[:3] > since))
        return [SessionRecord(user, name, created, updated, 0) for updated, user, name, created in found]

    async def append(
        self, user_id: str, session_id: str, messages: Sequence[NewMessage]
    ) -> Sequence[StoredMessage]:
        session = self._session(user_id, session_id)
        stored = [
            new
            for message in messages
            if (new := self._append(session_id, message, self._users[user_id])) is not None
        ]
        session.updated_at = max([session.updated_at, *(message.created_at for message in stored)])
        return stored

    async def messages(
        self, user_id: str, session_id: str, cursor: int | None, limit: int, descending: bool
    ) -> Sequence[StoredMessage]:
        stored = list(self._session(user_id, session_id).messages.values())
        if descending:
            end = len(stored) if cursor is None else bisect_left(stored, cursor, key=_position)
            return stored[max(end - limit, 0) : end][::-1]
        start = 0 if cursor is None else bisect_right(stored, cursor, key=_position)
        return stored[start : start + limit]

    async def message(self, user_id: str, session_id: str, message_id: str) -> StoredMessage:
        user = self._users.get(user_id)
        session = None if user is None else user.sessions.get(session_id)
        if session is None or message_id not in session.messages:
            raise MessageNotFound(message_id)
        return session.messages[message_id]

    async def remove(self, user_id: str, session_id: str, message_id: str) -> None:
        message = await self.message(user_id, session_id, message_id)
        user = self._users[user_id]
        session = user.sessions[session_id]
        del session.messages[message_id], session.kinds[message_id]
        _forget(user, message)

    async def fork(
        self,
        user_id: str,
        session_id: str,
        run_id: str,
        new_session_id: str,
        *,
        always: bool,
        before: str = "",
    ) -> bool:
        session = self._session(user_id, session_id)
        user = self._users[user_id]
        stored = list(session.messages.values())
        newest = max((message.position for message in stored), default=0)
        if before:
            end = session.messages.get(before)
            if end is None or end.run_id != run_id:
                raise MessageNotFound(before)
            last = end.position - 1
        else:
            last = max((message.position for message in stored if message.run_id == run_id), default=newest)
            if last == newest and not always:
                return False
        now = time.time()
        fork = user.sessions[new_session_id] = _Session(now, now)
        for message in stored:
            if message.position <= last:
                self._position += 1
                copy = replace(message, session_id=new_session_id, position=self._position)
                fork.messages[message.message_id] = user.by_position[copy.position] = copy
                fork.kinds[message.message_id] = session.kinds[message.message_id]
                key = (session_id, message.message_id)
                if key in user.pending:
                    user.pending[new_session_id, message.message_id] = user.pending[key]
                else:
                    user.index.copy(message.position, copy.position)
        return True

    async def search(
        self,
        user_id: str,
        query: str,
        session_id: str | None,
        limit: int,
        *,
        roles: Sequence[str] = (),
        types: Sequence[str] = (),
    ) -> Sequence[MessageHit]:
        user = self._users.get(user_id)
        if user is None:
            return []
        pending = [key for key in user.pending if session_id in (None, key[0])]
        for start in range(0, len(pending), _BATCH):
            _index(user, pending[start : start + _BATCH])
            await asyncio.sleep(0)  # let other tasks run
        following: dict[int, int] = {}
        for session in user.sessions.values():
            following.update(user.index.pairs(message.position for message in session.messages.values()))

        def is_chosen(message: StoredMessage) -> bool:
            kind = user.sessions[message.session_id].kinds[message.message_id]
            return session_id in (None, message.session_id) and _is_one_of(kind, roles, types)

        def fits(position: int) -> bool:
            """Accept also messages whose following message is chosen: its score depends on both."""
            places = (position, following.get(position, position))
            return any(is_chosen(user.by_position[place]) for place in places)

        ranked = add_following_scores(await scores(user.index.filtered(fits), query), following)
        # Some may have been deleted during the ranking.
        hits = [
            MessageHit(message, score)
            for position, score in ranked.items()
            if (message := user.by_position.get(position)) and is_chosen(message)
        ]
        return nlargest(limit, hits, key=lambda hit: (hit.score, hit.message.position))

    async def index_pending(self, limit: int = 2000) -> int:
        left = limit
        for user in self._users.values():
            keys = list(islice(user.pending, left))
            _index(user, keys)
            left -= len(keys)
            if left == 0:
                break
        return limit - left

    def _session(self, user_id: str, session_id: str) -> _Session:
        user = self._users.get(user_id)
        if user is None or session_id not in user.sessions:
            raise SessionNotFound(session_id)
        return user.sessions[session_id]

    def _append(self, session_id: str, message: NewMessage, user: _User) -> StoredMessage | None:
        """Append a message; None if the session has its id already."""
        messages = user.sessions[session_id].messages
        if message.message_id in messages:
            return None
        self._position += 1
        stored = StoredMessage(
            session_id,
            self._position,
            message.message_id,
            message.payload,
            message.created_at,
            message.run_id,
        )
        messages[message.message_id] = user.by_position[stored.position] = stored
        user.sessions[session_id].kinds[message.message_id] = message.role, message.type
        user.pending[session_id, message.message_id] = message.text
        return stored


def _forget(user: _User, message: StoredMessage) -> None:
    del user.by_position[message.position]
    if user.pending.pop((message.session_id, message.message_id), None) is None:
        user.index.remove(message.position)


def _is_one_of(kind: tuple[str, str], roles: Sequence[str], types: Sequence[str]) -> bool:
    role, type = kind
    return (not roles or role in roles) and (not types or type in types)


def _position(message: StoredMessage) -> int:
    return message.position


def _index(user: _User, keys: Iterable[tuple[str, str]]) -> None:
    """Index the messages that are still pending."""
    for key in keys:
        text = user.pending.pop(key, None)
        if text is not None:
            session_id, message_id = key
            user.index.add(user.sessions[session_id].messages[message_id].position, text)


def _record(user_id: str, session_id: str, session: _Session) -> SessionRecord:
    return SessionRecord(
        user_id,
        session_id,
        session.created_at,
        session.updated_at,
        len(session.messages),
        session.metadata,
    )
