"""StateService: an agent's saved state by user, session and round."""

from portico.client.convert import Json, json_text
from portico.client.paging import Listing, listing
from portico.client.service import Service
from portico.v1 import state_pb2


class States(Service):
    """Saved states. Every method raises PorticoError."""

    async def save(
        self,
        state: Json,
        *,
        user_id: str | None = None,
        session_id: str | None = None,
        round_id: int | None = None,
        etag: str = "",
    ) -> state_pb2.State:
        """Saves a round, by default the next one; returns it without its contents.

        Raises EtagMismatch when an etag is given and another writer has changed the state.
        """
        request = state_pb2.SaveStateRequest(
            user_id=user_id or "",
            session_id=session_id or "",
            round_id=round_id,
            state_json=json_text(state),
            etag=etag,
        )
        return (await self._calls.unary(self._calls.connection.states.SaveState, request)).state

    async def get(
        self, *, user_id: str | None = None, session_id: str | None = None, round_id: int | None = None
    ) -> state_pb2.State:
        """Returns one round, by default the greatest. Raises NotFound."""
        request = state_pb2.GetStateRequest(
            user_id=user_id or "", session_id=session_id or "", round_id=round_id
        )
        return (await self._calls.unary(self._calls.connection.states.GetState, request)).state

    def list(
        self,
        *,
        user_id: str | None = None,
        session_id: str | None = None,
        page_size: int = 0,
        page_token: str = "",
    ) -> Listing[state_pb2.ListStatesResponse, state_pb2.State]:
        """Lists a user's rounds by session and round, without their contents."""
        request = state_pb2.ListStatesRequest(
            user_id=user_id or "", session_id=session_id or "", page_size=page_size, page_token=page_token
        )
        return listing(
            self._calls, lambda: self._calls.connection.states.ListStates, request, lambda page: page.states
        )

    async def delete(
        self, *, user_id: str | None = None, session_id: str | None = None, round_id: int | None = None
    ) -> int:
        """Removes a round, a session's state or all states of a user; returns the number of removed rounds.

        Without a round, the data that frameworks keep in the session is removed too.
        """
        request = state_pb2.DeleteStateRequest(
            user_id=user_id or "", session_id=session_id or "", round_id=round_id
        )
        return (await self._calls.unary(self._calls.connection.states.DeleteState, request)).deleted_count
