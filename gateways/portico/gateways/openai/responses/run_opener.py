"""Finds or starts the run that answers a request, given its agent, conversation and previous response."""

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass

from portico.client import Client, FailedPrecondition, MultiplexedStream, NotFound
from portico.gateways.http.core_connection import CoreConnection
from portico.gateways.openai.cancel_unreachable import UnreachableRunCanceller
from portico.gateways.openai.errors import OpenAiError, invalid
from portico.gateways.openai.models import Agents
from portico.gateways.openai.responses.previous_response import PreviousResponse, find_previous
from portico.gateways.openai.responses.request.creation import Creation
from portico.gateways.openai.responses.request.item_references import resolve_references
from portico.gateways.openai.responses.request.request_echo import RequestEcho
from portico.gateways.openai.responses.request.tool_answers import (
    digest_of,
    is_repeated_answer,
    read_tool_answer,
)
from portico.gateways.openai.responses.response_ids import run_of
from portico.gateways.openai.responses.stream.event_writer import NEVER
from portico.gateways.openai.responses.stream.replay import replayed
from portico.gateways.openai.responses.stream.translator import ResponseTranslator
from portico.v1 import query_pb2

_TRIES = 3  # attempts to answer an input request that other callers may answer too
_LOOKED_THROUGH = 10  # runs of a conversation that are searched for the answer that a request repeats


@dataclass(frozen=True, slots=True)
class RunPlan:
    """A run to start; or, with `run`, a response of an existing run.

    The response is the `number`th, or by default the first one after the run's last event.
    """

    query: query_pb2.QueryRequest
    run: query_pb2.Run | None = None
    number: int = 1

    @property
    def echo(self) -> RequestEcho:
        """The parameters that the response repeats."""
        if self.run is not None:
            return RequestEcho(self.run.request, background=self.run.background)
        return RequestEcho(self.query.request, background=self.query.background)

    def translator(self, after: int = -1, *, following: bool = False) -> ResponseTranslator:
        """Returns a translator for the planned response; for the arguments see ResponseTranslator."""
        beyond = -1 if self.run is None or self.number > 1 else self.run.last_sequence_number
        return ResponseTranslator(
            self.echo, number=self.number, beyond=beyond, after=after, following=following
        )


@dataclass(frozen=True, slots=True)
class ConversationPlacement:
    """The session and run that a request continues."""

    user_id: str = ""
    session_id: str = ""
    waiting: query_pb2.Run | None = None  # the run that waits for this input
    previous: PreviousResponse | None = None


class RunOpener:
    """Plans requests and opens the streams that answer them."""

    def __init__(self, core: CoreConnection, agents: Agents) -> None:
        self._core = core
        self._agents = agents
        self._stranded = UnreachableRunCanceller(core)

    async def plan(self, creation: Creation, metadata: Mapping[str, str], *, compatible: bool) -> RunPlan:
        """Resolves agent, conversation, previous response and repeats of a request, and answers a waiting
        run. Raises OpenAiError, PorticoError.
        """
        client = self._core.client.with_options(metadata=metadata)
        query = creation.query
        digest = digest_of(query)
        await self._name_agent(creation, metadata, compatible=compatible)
        for left in reversed(range(_TRIES)):
            place = await self._place(client, creation, metadata)
            if query.idempotency_key and (
                repeated := await self._repeated(client, query, digest, place, metadata)
            ):
                return repeated
            waiting = place.waiting
            if waiting is None:
                if place.previous is not None:
                    _continue(query, place.previous)
                return RunPlan(query)
            _check_answers(query, waiting)
            asked = waiting.response.input_request.id
            try:
                run = await client.runs.resume(
                    waiting.response.id, read_tool_answer(query, digest), input_request_id=asked or None
                )
            except FailedPrecondition:
                if not left:
                    raise
                continue  # another caller answered first; the run does not wait any more
            run.request.CopyFrom(waiting.request)
            return RunPlan(query, run)
        raise AssertionError("the last try returns or raises")

    async def check(self, creation: Creation, metadata: Mapping[str, str], *, compatible: bool) -> str:
        """Checks a request as `plan` does, without starting anything, and returns the agent's name. Raises
        OpenAiError, PorticoError.
        """
        client = self._core.client.with_options(metadata=metadata)
        await self._name_agent(creation, metadata, compatible=compatible)
        await self._place(client, creation, metadata)
        return creation.query.request.agent_name or await self._agents.default(metadata)

    def open(self, plan: RunPlan, metadata: Mapping[str, str]) -> MultiplexedStream:
        """Opens the stream of the planned run."""
        if plan.run is not None:
            watch = query_pb2.WatchRunRequest(run_id=plan.run.response.id)
            return self._core.streams.open_watch(watch, metadata=metadata)
        return self._core.streams.open_query(plan.query, metadata=metadata)

    def forget(self, plan: RunPlan, translator: ResponseTranslator, metadata: Mapping[str, str]) -> None:
        """Cancels a run that asks for input and that no call can continue; it would wait for ever."""
        if plan.query.ephemeral and plan.run is None and translator.paused and translator.wanted:
            self._stranded.cancel(run_of(translator.wanted.id)[0], metadata)

    async def _name_agent(self, creation: Creation, metadata: Mapping[str, str], *, compatible: bool) -> None:
        request = creation.query.request
        if not creation.model:
            return
        if not compatible:
            await self._agents.check(creation.model, metadata)
        elif not await self._agents.has(creation.model, metadata):
            # Under this path `model` is a parameter for the default agent, unless it is an agent's name.
            request.parameters.model = creation.model
            return
        request.agent_name = creation.model

    async def _place(
        self, client: Client, creation: Creation, metadata: Mapping[str, str]
    ) -> ConversationPlacement:
        if creation.conversation:
            id = creation.conversation
            place = ConversationPlacement("", id, waiting=await self._conversation(client, id))
        elif creation.previous:
            previous = await find_previous(self._core, client, creation.previous, metadata)
            response = previous.run.response
            waiting = previous.run if previous.waits else None
            place = ConversationPlacement(response.user_id, response.session_id, waiting, previous)
        else:
            place = ConversationPlacement()
        before = "" if place.previous is None else place.previous.before
        await resolve_references(client, creation, place.user_id, place.session_id, before)
        return place

    async def _conversation(self, client: Client, id: str) -> query_pb2.Run | None:
        """Returns the conversation's run that waits for input, if any; a new run would be queued behind it
        for ever.
        """
        waiting = client.runs.list(session_id=id, statuses=("input_required",), page_size=1)
        try:
            _, page = await asyncio.gather(client.sessions.get(id), waiting.page())
        except NotFound:
            raise conversation_not_found(id) from None
        return await client.runs.get(page.runs[0].response.id) if page.runs else None

    async def _repeated(
        self,
        client: Client,
        query: query_pb2.QueryRequest,
        digest: str,
        place: ConversationPlacement,
        metadata: Mapping[str, str],
    ) -> RunPlan | None:
        """Returns the plan of the earlier request with the same key, if that request answered an input
        request; the core detects all other repeats.
        """
        key = query.idempotency_key
        if place.previous is not None:
            following = place.previous.following
            if following is not None and is_repeated_answer(following.input, key, digest):
                return RunPlan(query, place.previous.run, following.number)
            return None
        if not place.session_id:
            return None
        id = place.session_id
        if place.waiting is not None and place.waiting.idempotency_key == key:
            return RunPlan(query)  # the request that started the waiting run
        page = await client.runs.list(session_id=id, page_size=_LOOKED_THROUGH).page()
        for listed in page.runs:
            run = await client.runs.get(listed.response.id)
            translator = ResponseTranslator(RequestEcho(run.request), number=2, after=NEVER, following=True)
            await replayed(self._core, run, translator, metadata)
            for segment in translator.told:
                if is_repeated_answer(segment.input, key, digest):
                    return RunPlan(query, run, segment.number)
        return None


def _continue(query: query_pb2.QueryRequest, previous: PreviousResponse) -> None:
    query.previous_run_id = previous.run.response.id
    # A response outside the conversation must not become part of it.
    query.fork_session = previous.in_conversation
    query.before_message_id = previous.before


def _check_answers(query: query_pb2.QueryRequest, waiting: query_pb2.Run) -> None:
    """Raises OpenAiError if the request cannot be an answer to the waiting run: wrong agent, or background or
    store differ.
    """
    asking = waiting.response.agent_name
    if query.request.agent_name not in ("", asking):
        raise invalid("model", f"must be '{asking}' or omitted, since that agent waits for this answer")
    if query.background and not waiting.background:
        raise invalid(
            "background",
            "must be false, since the response that waits for this answer is not in the background",
        )
    if query.ephemeral:
        raise invalid("store", "must be true, since the response that waits for this answer is stored")


def conversation_not_found(id: str) -> OpenAiError:
    """Returns the error (404) for an unknown conversation."""
    message = f"Conversation with id '{id}' not found."
    return OpenAiError(message, status=404, code="conversation_not_found", param="conversation")
