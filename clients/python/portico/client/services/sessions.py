"""SessionService: conversations and their messages."""

from collections.abc import Iterable
from typing import Literal, TypeAlias

from portico.client.convert import Json, MessagesLike, enum_number, json_text, to_messages
from portico.client.paging import Listing, listing
from portico.client.service import Service
from portico.v1 import events_pb2, session_pb2

Order: TypeAlias = session_pb2.SortOrder.ValueType | Literal["ascending", "descending"]


class Sessions(Service):
    """Users' sessions. Every method raises PorticoError."""

    async def create(
        self, *, user_id: str | None = None, session_id: str | None = None, metadata: Json = None
    ) -> session_pb2.Session:
        """Creates an empty session, by default with a generated id. Raises AlreadyExists."""
        request = session_pb2.CreateSessionRequest(
            user_id=user_id or "", session_id=session_id or "", metadata_json=json_text(metadata)
        )
        return (await self._calls.unary(self._calls.connection.sessions.CreateSession, request)).session

    async def get(self, session_id: str, *, user_id: str | None = None) -> session_pb2.Session:
        """Returns a session without its messages. Raises NotFound."""
        request = session_pb2.GetSessionRequest(user_id=user_id or "", session_id=session_id)
        return (await self._calls.unary(self._calls.connection.sessions.GetSession, request)).session

    async def update(
        self, session_id: str, *, user_id: str | None = None, metadata: Json
    ) -> session_pb2.Session:
        """Replaces a session's metadata. Raises NotFound."""
        request = session_pb2.UpdateSessionRequest(
            user_id=user_id or "", session_id=session_id, metadata_json=json_text(metadata)
        )
        return (await self._calls.unary(self._calls.connection.sessions.UpdateSession, request)).session

    def list(
        self, *, user_id: str | None = None, page_size: int = 0, page_token: str = ""
    ) -> Listing[session_pb2.ListSessionsResponse, session_pb2.Session]:
        """Lists a user's sessions, last used first."""
        request = session_pb2.ListSessionsRequest(
            user_id=user_id or "", page_size=page_size, page_token=page_token
        )
        return listing(
            self._calls,
            lambda: self._calls.connection.sessions.ListSessions,
            request,
            lambda page: page.sessions,
        )

    async def delete(
        self, session_id: str, *, user_id: str | None = None, timeout: float | None = None
    ) -> None:
        """Removes a session and its messages; its runs stay. Raises NotFound.

        Many messages take long to delete, so the timeout, in seconds, is at least 600 by default. A call
        that ends early has deleted some messages; the same call deletes the rest.
        """
        request = session_pb2.DeleteSessionRequest(user_id=user_id or "", session_id=session_id)
        calls = self._calls.deleting(timeout)
        await calls.unary(calls.connection.sessions.DeleteSession, request)

    async def append_messages(
        self, session_id: str, messages: MessagesLike, *, user_id: str | None = None
    ) -> tuple[session_pb2.SessionMessage, ...]:
        """Appends messages, all or none; skips messages that the session already has.

        Raises NotFound.
        """
        request = session_pb2.AppendMessagesRequest(
            user_id=user_id or "", session_id=session_id, messages=to_messages(messages)
        )
        response = await self._calls.unary(self._calls.connection.sessions.AppendMessages, request)
        return tuple(response.messages)

    def list_messages(
        self,
        session_id: str,
        *,
        user_id: str | None = None,
        order: Order = "ascending",
        after_message_id: str | None = None,
        page_size: int = 0,
        page_token: str = "",
    ) -> Listing[session_pb2.ListMessagesResponse, session_pb2.SessionMessage]:
        """Lists a session's messages, oldest first by default, optionally after a given message.

        Reading raises NotFound.
        """
        request = session_pb2.ListMessagesRequest(
            user_id=user_id or "",
            session_id=session_id,
            page_size=page_size,
            page_token=page_token,
            order=enum_number(session_pb2.SortOrder, order, "SORT_ORDER_"),
            after_message_id=after_message_id or "",
        )
        return listing(
            self._calls,
            lambda: self._calls.connection.sessions.ListMessages,
            request,
            lambda page: page.messages,
        )

    async def get_message(
        self, session_id: str, message_id: str, *, user_id: str | None = None
    ) -> session_pb2.SessionMessage:
        """Returns one message. Raises NotFound."""
        request = session_pb2.GetMessageRequest(
            user_id=user_id or "", session_id=session_id, message_id=message_id
        )
        return (await self._calls.unary(self._calls.connection.sessions.GetMessage, request)).message

    async def delete_message(self, session_id: str, message_id: str, *, user_id: str | None = None) -> None:
        """Removes one message. Raises NotFound."""
        request = session_pb2.DeleteMessageRequest(
            user_id=user_id or "", session_id=session_id, message_id=message_id
        )
        await self._calls.unary(self._calls.connection.sessions.DeleteMessage, request)

    async def search(
        self,
        query: str,
        *,
        user_id: str | None = None,
        session_id: str | None = None,
        roles: Iterable[events_pb2.Role.ValueType | str] = (),
        types: Iterable[events_pb2.MessageType.ValueType | str] = (),
        highlight: bool = False,
        top_k: int = 0,
    ) -> tuple[session_pb2.SessionHit, ...]:
        """Returns messages of all of a user's sessions, or of one, that contain the words; best match
        first.

        Roles and types, such as "user" and "reasoning", restrict the search to messages of these kinds.
        """
        request = session_pb2.SearchSessionsRequest(
            user_id=user_id or "",
            query=query,
            session_id=session_id or "",
            roles=[enum_number(events_pb2.Role, role, "ROLE_") for role in roles],
            types=[enum_number(events_pb2.MessageType, type, "MESSAGE_TYPE_") for type in types],
            highlight=highlight,
            top_k=top_k,
        )
        return tuple((await self._calls.unary(self._calls.connection.sessions.SearchSessions, request)).hits)
