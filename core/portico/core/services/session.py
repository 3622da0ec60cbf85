"""SessionService: sessions (conversations) and their messages."""

import asyncio
import time
from collections.abc import Iterable, Mapping
from enum import StrEnum
from typing import TypeVar

from grpc.aio import ServicerContext

from portico.agent import Message
from portico.core.convert.enums import ROLE_FROM_PROTO, TYPE_FROM_PROTO
from portico.core.convert.messages import (
    load_object,
    message_from_proto,
    message_to_proto,
    messages_from_proto,
)
from portico.core.convert.requests import check_id
from portico.core.convert.timestamps import timestamp
from portico.core.errors import InvalidArgument
from portico.core.log.session_messages import searchable_text
from portico.core.sandboxes.core_sandboxes import CoreSandboxes
from portico.core.services.rpc.current_principal import resolve_owner, session_owner
from portico.core.services.rpc.page_tokens import decode_token, encode_token, page_size
from portico.core.stores.argument_checks import check_count, check_query, check_top_k
from portico.core.stores.ports.stores import NewMessage, SessionRecord, SessionStore, StoredMessage
from portico.core.stores.search.highlights import highlights
from portico.model.identity import user_of
from portico.model.ids import new_id
from portico.v1 import events_pb2
from portico.v1 import session_pb2 as pb

_Number = TypeVar("_Number", bound=int)


class SessionService:
    """Serves the sessions of one store."""

    def __init__(self, sessions: SessionStore, sandboxes: CoreSandboxes) -> None:
        self._sessions = sessions
        self._sandboxes = sandboxes

    async def CreateSession(
        self, request: pb.CreateSessionRequest, context: ServicerContext
    ) -> pb.CreateSessionResponse:
        session_id = check_id(request.session_id or new_id("session_"), "session_id")
        owner = session_owner(request.user_id, session_id)
        load_object(request.metadata_json, "metadata_json")
        record = await self._sessions.create(owner, session_id, request.metadata_json)
        return pb.CreateSessionResponse(session=_session(record))

    async def GetSession(
        self, request: pb.GetSessionRequest, context: ServicerContext
    ) -> pb.GetSessionResponse:
        record = await self._sessions.get(*_names(request))
        return pb.GetSessionResponse(session=_session(record))

    async def UpdateSession(
        self, request: pb.UpdateSessionRequest, context: ServicerContext
    ) -> pb.UpdateSessionResponse:
        owner, session_id = _names(request)
        load_object(request.metadata_json, "metadata_json")
        record = await self._sessions.update(owner, session_id, request.metadata_json)
        return pb.UpdateSessionResponse(session=_session(record))

    async def ListSessions(
        self, request: pb.ListSessionsRequest, context: ServicerContext
    ) -> pb.ListSessionsResponse:
        owner = resolve_owner(request.user_id)
        size = page_size(request.page_size)
        place = decode_token(request.page_token, float, str)
        before = None if place is None else (float(str(place[0])), str(place[1]))
        rows = await self._sessions.list(owner, before, size + 1)
        token = encode_token(rows[size - 1].updated_at, rows[size - 1].session_id) if len(rows) > size else ""
        return pb.ListSessionsResponse(sessions=[_session(row) for row in rows[:size]], next_page_token=token)

    async def DeleteSession(
        self, request: pb.DeleteSessionRequest, context: ServicerContext
    ) -> pb.DeleteSessionResponse:
        owner, session_id = _names(request)
        try:
            await self._sessions.delete(owner, session_id)
        finally:
            # A session without messages, which the store does not know, may have a sandbox all the same.
            await self._sandboxes.release(owner, session_id)
        return pb.DeleteSessionResponse()

    async def AppendMessages(
        self, request: pb.AppendMessagesRequest, context: ServicerContext
    ) -> pb.AppendMessagesResponse:
        owner, session_id = _names(request)
        check_count(len(request.messages), "messages")
        messages = messages_from_proto(request.messages, "messages")
        rows = [_new(owner, session_id, message) for message in messages]
        stored = await self._sessions.append(owner, session_id, rows)
        return pb.AppendMessagesResponse(messages=[_message(row) for row in stored])

    async def ListMessages(
        self, request: pb.ListMessagesRequest, context: ServicerContext
    ) -> pb.ListMessagesResponse:
        owner, session_id = _names(request)
        size = page_size(request.page_size)
        place = decode_token(request.page_token, int)
        cursor = None if place is None else int(str(place[0]))
        if request.after_message_id:
            if cursor is not None:
                raise InvalidArgument("after_message_id", "must not be combined with a page_token")
            after = check_id(request.after_message_id, "after_message_id")
            cursor = (await self._sessions.message(owner, session_id, after)).position
        if request.order not in pb.SortOrder.values():
            raise InvalidArgument("order", f"unknown value {request.order}")
        descending = request.order == pb.SORT_ORDER_DESCENDING
        rows = await self._sessions.messages(owner, session_id, cursor, size + 1, descending)
        token = encode_token(rows[size - 1].position) if len(rows) > size else ""
        return pb.ListMessagesResponse(messages=[_message(row) for row in rows[:size]], next_page_token=token)

    async def GetMessage(
        self, request: pb.GetMessageRequest, context: ServicerContext
    ) -> pb.GetMessageResponse:
        message_id = check_id(request.message_id, "message_id")
        return pb.GetMessageResponse(
            message=_message(await self._sessions.message(*_names(request), message_id))
        )

    async def DeleteMessage(
        self, request: pb.DeleteMessageRequest, context: ServicerContext
    ) -> pb.DeleteMessageResponse:
        await self._sessions.remove(*_names(request), check_id(request.message_id, "message_id"))
        return pb.DeleteMessageResponse()

    async def SearchSessions(
        self, request: pb.SearchSessionsRequest, context: ServicerContext
    ) -> pb.SearchSessionsResponse:
        owner = resolve_owner(request.user_id)
        session_id = check_id(request.session_id, "session_id", required=False) or None
        found = await self._sessions.search(
            owner,
            check_query(request.query),
            session_id,
            check_top_k(request.top_k),
            roles=_words(request.roles, ROLE_FROM_PROTO, "roles"),
            types=_words(request.types, TYPE_FROM_PROTO, "types"),
        )
        hits = [
            pb.SessionHit(session_id=hit.message.session_id, message=_message(hit.message), score=hit.score)
            for hit in found
        ]
        if request.highlight:
            await asyncio.to_thread(_highlight, hits, request.query)
        return pb.SearchSessionsResponse(hits=hits)


def _words(numbers: Iterable[_Number], words: Mapping[_Number, StrEnum], field: str) -> list[str]:
    """Converts enum values to words. Raises InvalidArgument for an unknown value."""
    for number in numbers:
        if number not in words:
            raise InvalidArgument(field, f"unknown value {number}")
    return sorted({words[number].value for number in numbers})


def _highlight(hits: Iterable[pb.SessionHit], query: str) -> None:
    for hit in hits:
        text = searchable_text(message_from_proto(hit.message.message))
        hit.highlights.extend(
            pb.Highlight(text=piece, ranges=[pb.TextRange(start=start, end=end) for start, end in ranges])
            for piece, ranges in highlights(text, query)
        )


def _names(
    request: pb.GetSessionRequest
    | pb.UpdateSessionRequest
    | pb.DeleteSessionRequest
    | pb.AppendMessagesRequest
    | pb.ListMessagesRequest
    | pb.GetMessageRequest
    | pb.DeleteMessageRequest,
) -> tuple[str, str]:
    session_id = check_id(request.session_id, "session_id")
    return session_owner(request.user_id, session_id), session_id


def _new(owner: str, session_id: str, message: Message) -> NewMessage:
    return NewMessage(
        user_id=owner,
        session_id=session_id,
        message_id=message.id,
        role=message.role.value,
        text=searchable_text(message),
        payload=message_to_proto(message).SerializeToString(),
        created_at=time.time(),
        type=message.type.value,
    )


def _session(record: SessionRecord) -> pb.Session:
    return pb.Session(
        user_id=user_of(record.user_id),
        session_id=record.session_id,
        created_time=timestamp(record.created_at),
        updated_time=timestamp(record.updated_at),
        message_count=record.message_count,
        metadata_json=record.metadata,
    )


def _message(stored: StoredMessage) -> pb.SessionMessage:
    return pb.SessionMessage(
        message=events_pb2.Message.FromString(stored.payload),
        position=stored.position,
        created_time=timestamp(stored.created_at),
        run_id=stored.run_id,
    )
