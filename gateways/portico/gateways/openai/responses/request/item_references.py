"""Looks up the items that a request refers to, and checks that its other items are new."""

import asyncio

from portico.client import Client, NotFound
from portico.gateways.openai.errors import OpenAiError
from portico.gateways.openai.responses.request.creation import Creation
from portico.gateways.openai.responses.request.input_items import duplicate
from portico.v1 import events_pb2 as pb
from portico.v1 import session_pb2


async def resolve_references(
    client: Client, creation: Creation, user_id: str, session_id: str, before: str
) -> None:
    """Fills in referenced items, and checks that no other item is already in the session.

    Args:
        client: The client to the core.
        creation: The request; its references are filled in.
        user_id: The session's user.
        session_id: The session; empty for none.
        before: Id of the session's first message that the request does not continue; empty for none.

    Raises:
        OpenAiError: An item is unknown, or is in the session already.
    """
    if not session_id:
        for _, id, field in creation.references:
            message = f"Item with id '{id}' not found: refer to items of a conversation or previous response."
            raise OpenAiError(message, status=404, code="item_not_found", param=field)
        return
    session = _Session(client, user_id, session_id)
    await asyncio.gather(
        *(session.fetch(*reference) for reference in creation.references),
        session.check_new(creation.ids, before),
    )


async def check_not_stored(client: Client, ids: dict[str, str], user_id: str, session_id: str) -> None:
    """Raises OpenAiError if the session has one of these items; `ids` maps ids to paths."""
    await _Session(client, user_id, session_id).check_new(ids)


class _Session:
    def __init__(self, client: Client, user_id: str, session_id: str) -> None:
        self._client = client
        self._user_id = user_id
        self._session_id = session_id

    async def fetch(self, place: pb.Message, id: str, field: str) -> None:
        stored = await self._get(id)
        if stored is None:
            message = f"Item with id '{id}' not found."
            raise OpenAiError(message, status=404, code="item_not_found", param=field)
        place.CopyFrom(stored.message)

    async def check_new(self, ids: dict[str, str], before: str = "") -> None:
        if not ids:
            return
        *found, end = await asyncio.gather(*map(self._get, ids), self._get(before))
        for (id, field), stored in zip(ids.items(), found, strict=True):
            if stored is not None and (end is None or stored.position < end.position):
                raise duplicate(id, field)

    async def _get(self, id: str) -> session_pb2.SessionMessage | None:
        if not id:
            return None
        try:
            return await self._client.sessions.get_message(
                self._session_id, id, user_id=self._user_id or None
            )
        except NotFound:
            return None
