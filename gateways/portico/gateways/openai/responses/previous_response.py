"""Finds the response that another one continues, and the one that followed it in the same run."""

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass

from portico.client import Client, NotFound
from portico.gateways.http.core_connection import CoreConnection
from portico.gateways.openai.errors import OpenAiError
from portico.gateways.openai.responses.request.request_echo import RequestEcho
from portico.gateways.openai.responses.response_ids import run_of
from portico.gateways.openai.responses.stream.event_writer import NEVER
from portico.gateways.openai.responses.stream.replay import replayed
from portico.gateways.openai.responses.stream.response_builder import ResponseBuilder
from portico.gateways.openai.responses.stream.translator import ResponseTranslator
from portico.v1 import events_pb2 as pb
from portico.v1 import query_pb2


@dataclass(frozen=True, slots=True)
class PreviousResponse:
    """A response of a run, and the response that followed it in that run, if any."""

    id: str
    run: query_pb2.Run
    following: ResponseBuilder | None

    @property
    def waits(self) -> bool:
        """Whether it asked for input that has not arrived."""
        return self.following is None and self.run.response.status == pb.RUN_STATUS_INPUT_REQUIRED

    @property
    def before(self) -> str:
        """The id of the first message after this response; empty if there is none yet."""
        return "" if self.following is None else self.following.input[0].id

    @property
    def in_conversation(self) -> bool:
        """Whether the response belongs to a conversation."""
        return RequestEcho(self.run.request).fields["conversation"] is not None


async def find_previous(
    core: CoreConnection, client: Client, id: str, metadata: Mapping[str, str]
) -> PreviousResponse:
    """Finds a response by its id. Raises OpenAiError (400), PorticoError."""
    run_id, number = run_of(id)
    try:
        run = await client.runs.get(run_id)
    except NotFound:
        raise previous_not_found(id) from None
    translator = ResponseTranslator(RequestEcho(run.request), number=number + 1, after=NEVER)
    _, remembered = await asyncio.gather(
        replayed(core, run, translator, metadata), _is_remembered(client, run.response)
    )
    if translator.reached < number:
        raise previous_not_found(id)
    previous = PreviousResponse(id, run, translator.wanted)
    if previous.before:
        remembered = await _is_remembered(client, run.response, previous.before)
    if not remembered and not previous.waits:
        raise _gone(f"The items before response '{id}' were deleted, with their conversation or one by one.")
    return previous


async def _is_remembered(client: Client, response: pb.Response, message_id: str = "") -> bool:
    """Returns whether the run's session, or a message in it, still exists."""
    sessions, id, user_id = client.sessions, response.session_id, response.user_id
    try:
        if message_id:
            await sessions.get_message(id, message_id, user_id=user_id)
        else:
            # Cheaper than getting the session, which counts its messages.
            await sessions.list_messages(id, user_id=user_id, page_size=1).page()
    except NotFound:
        return False
    return True


def previous_not_found(id: str) -> OpenAiError:
    """Returns the error (400) for an unknown previous response."""
    return _gone(f"Previous response with id '{id}' not found.")


def _gone(message: str) -> OpenAiError:
    return OpenAiError(message, code="previous_response_not_found", param="previous_response_id")
