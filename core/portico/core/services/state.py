"""StateService: agents' state by user, session and round."""

from grpc.aio import ServicerContext

from portico.core.convert.messages import load_object
from portico.core.convert.requests import check_id
from portico.core.convert.timestamps import timestamp
from portico.core.errors import InvalidArgument
from portico.core.services.rpc.current_principal import resolve_owner
from portico.core.services.rpc.page_tokens import decode_token, encode_token, page_size
from portico.core.stores.argument_checks import STATE_CHARACTERS, check_round
from portico.core.stores.ports.stores import StateRecord, StateStore
from portico.model.identity import user_of
from portico.v1 import state_pb2 as pb

DEFAULT_SESSION = "default"


class StateService:
    """Serves the states of one store."""

    def __init__(self, states: StateStore) -> None:
        self._states = states

    async def SaveState(self, request: pb.SaveStateRequest, context: ServicerContext) -> pb.SaveStateResponse:
        owner = resolve_owner(request.user_id)
        session_id = check_id(request.session_id or DEFAULT_SESSION, "session_id")
        if not request.state_json:
            raise InvalidArgument("state_json", "is required")
        load_object(request.state_json, "state_json", STATE_CHARACTERS)
        record = await self._states.save(
            owner, session_id, _round(request), request.state_json, request.etag or None
        )
        return pb.SaveStateResponse(state=_state(record, contents=False))

    async def GetState(self, request: pb.GetStateRequest, context: ServicerContext) -> pb.GetStateResponse:
        owner = resolve_owner(request.user_id)
        session_id = check_id(request.session_id or DEFAULT_SESSION, "session_id")
        return pb.GetStateResponse(
            state=_state(await self._states.get(owner, session_id, _round(request)), contents=True)
        )

    async def ListStates(
        self, request: pb.ListStatesRequest, context: ServicerContext
    ) -> pb.ListStatesResponse:
        owner = resolve_owner(request.user_id)
        session_id = check_id(request.session_id, "session_id", required=False) or None
        size = page_size(request.page_size)
        place = decode_token(request.page_token, str, int)
        after = None if place is None else (str(place[0]), int(str(place[1])))
        rows = await self._states.list(owner, session_id, after, size + 1)
        token = encode_token(rows[size - 1].session_id, rows[size - 1].round_id) if len(rows) > size else ""
        return pb.ListStatesResponse(
            states=[_state(row, contents=False) for row in rows[:size]], next_page_token=token
        )

    async def DeleteState(
        self, request: pb.DeleteStateRequest, context: ServicerContext
    ) -> pb.DeleteStateResponse:
        owner = resolve_owner(request.user_id)
        session_id = check_id(request.session_id, "session_id", required=False) or None
        round_id = _round(request)
        if round_id is not None and session_id is None:
            raise InvalidArgument("round_id", "needs a session_id")
        # A round belongs to the agent's own state; without a round, frameworks' state is deleted too.
        part = None if round_id is None else ""
        deleted = await self._states.delete(owner, session_id, round_id, part)
        return pb.DeleteStateResponse(deleted_count=deleted)


def _round(request: pb.SaveStateRequest | pb.GetStateRequest | pb.DeleteStateRequest) -> int | None:
    return check_round(request.round_id) if request.HasField("round_id") else None


def _state(record: StateRecord, *, contents: bool) -> pb.State:
    return pb.State(
        user_id=user_of(record.user_id),
        session_id=record.session_id,
        round_id=record.round_id,
        state_json=record.state if contents else "",
        etag=record.etag,
        updated_time=timestamp(record.updated_at),
    )
