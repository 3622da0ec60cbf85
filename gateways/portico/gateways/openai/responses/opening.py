"""From what is asked to the run that answers it, by way of agents, conversations and earlier responses."""

import asyncio
import logging
from collections.abc import Mapping
from dataclasses import dataclass

from portico.client import Client, MuxStream, NotFound, PorticoError
from portico.gateways.http.core import Core
from portico.gateways.openai.errors import OpenAiError
from portico.gateways.openai.models import Agents
from portico.gateways.openai.responses.echo import Echo
from portico.gateways.openai.responses.ids import run_of
from portico.gateways.openai.responses.replay import replayed
from portico.gateways.openai.responses.request import Creation
from portico.gateways.openai.responses.translate import Translator
from portico.gateways.openai.responses.writer import NEVER
from portico.v1 import events_pb2 as pb
from portico.v1 import query_pb2

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Plan:
    """What is to be started, or, with `resumed`, the paused run that was given its answer."""

    query: query_pb2.QueryRequest
    resumed: query_pb2.Run | None = None

    @property
    def echo(self) -> Echo:
        if self.resumed is not None:
            return Echo(self.resumed.request, background=self.resumed.background)
        return Echo(self.query.request, background=self.query.background)

    def translator(self, after: int = -1, *, following: bool = False) -> Translator:
        beyond = -1 if self.resumed is None else self.resumed.last_sequence_number
        return Translator(self.echo, beyond=beyond, after=after, following=following)


class Opener:
    """Opens the stream that answers a request."""

    def __init__(self, core: Core, agents: Agents) -> None:
        self._core = core
        self._agents = agents
        self._cancelling: set[asyncio.Task[None]] = set()

    async def plan(self, creation: Creation, metadata: Mapping[str, str], *, compatible: bool) -> Plan:
        """Raises OpenAiError, PorticoError."""
        client = self._core.client.with_options(metadata=metadata)
        request = creation.query.request
        if compatible and creation.model and not await self._agents.has(creation.model, metadata):
            # Under this path a model is a wish to the default agent, unless it is an agent's name.
            request.parameters.model = creation.model
        else:
            request.agent_name = creation.model
        user_id = session_id = creation.conversation
        previous = None
        if creation.conversation:
            previous = await self._conversation(client, creation.conversation)
        elif creation.previous:
            previous = await self._previous(client, creation.previous, metadata)
            user_id, session_id = previous.response.user_id, previous.response.session_id
            creation.query.previous_run_id = previous.response.id
        await _dereference(client, creation, user_id, session_id)
        if previous is not None and previous.response.status == pb.RUN_STATUS_INPUT_REQUIRED:
            resumed = await client.runs.resume(previous.response.id, list(request.input))
            resumed.request.CopyFrom(previous.request)
            return Plan(creation.query, resumed)
        return Plan(creation.query)

    def open(self, plan: Plan, metadata: Mapping[str, str]) -> MuxStream:
        if plan.resumed is not None:
            watch = query_pb2.WatchRunRequest(run_id=plan.resumed.response.id)
            return self._core.streams.open_watch(watch, metadata=metadata)
        return self._core.streams.open_query(plan.query, metadata=metadata)

    async def model_not_found(self, name: str, metadata: Mapping[str, str]) -> OpenAiError:
        return await self._agents.not_found(name, metadata)

    def forget(self, plan: Plan, translator: Translator, metadata: Mapping[str, str]) -> None:
        """A question of a run that nobody can continue: it would wait for its answer for ever."""
        if plan.query.ephemeral and plan.resumed is None and translator.paused and translator.wanted:
            cancelling = asyncio.create_task(self._cancel(run_of(translator.wanted.id)[0], metadata))
            self._cancelling.add(cancelling)
            cancelling.add_done_callback(self._cancelling.discard)

    async def _cancel(self, run_id: str, metadata: Mapping[str, str]) -> None:
        try:
            await self._core.client.with_options(metadata=metadata).runs.cancel(run_id)
        except PorticoError as error:
            log.info("run %s waits for input that can't come: %s", run_id, error)

    async def _conversation(self, client: Client, id: str) -> query_pb2.Run | None:
        """The run that waits for an answer there, if any: a new one would wait behind it for ever."""
        waiting = client.runs.list(user_id=id, session_id=id, statuses=("input_required",), page_size=1)
        try:
            _, page = await asyncio.gather(client.sessions.get(id, user_id=id), waiting.page())
        except NotFound:
            raise conversation_not_found(id) from None
        return await client.runs.get(page.runs[0].response.id) if page.runs else None

    async def _previous(self, client: Client, id: str, metadata: Mapping[str, str]) -> query_pb2.Run:
        run_id, number = run_of(id)
        try:
            run = await client.runs.get(run_id)
        except NotFound:
            raise previous_not_found(id) from None
        if number > 1:
            translator = Translator(Echo(run.request), number=number, after=NEVER)
            if await replayed(self._core, run, translator, metadata) is None:
                raise previous_not_found(id)
        return run


def conversation_not_found(id: str) -> OpenAiError:
    message = f"Conversation with id '{id}' not found."
    return OpenAiError(message, status=404, code="conversation_not_found", param="conversation")


def previous_not_found(id: str) -> OpenAiError:
    return OpenAiError(
        f"Previous response with id '{id}' not found.",
        code="previous_response_not_found",
        param="previous_response_id",
    )


async def _dereference(client: Client, creation: Creation, user_id: str, session_id: str) -> None:
    """Puts the items that are referred to in their places. Raises OpenAiError."""
    if not creation.references:
        return
    if not session_id:
        _, id, field = creation.references[0]
        message = f"Item with id '{id}' not found: refer to items of a conversation or previous response."
        raise OpenAiError(message, status=404, code="item_not_found", param=field)

    async def fetch(place: pb.Message, id: str, field: str) -> None:
        try:
            stored = await client.sessions.get_message(session_id, id, user_id=user_id)
        except NotFound:
            message = f"Item with id '{id}' not found."
            raise OpenAiError(message, status=404, code="item_not_found", param=field) from None
        place.CopyFrom(stored.message)

    await asyncio.gather(*(fetch(*reference) for reference in creation.references))
