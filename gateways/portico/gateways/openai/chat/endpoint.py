"""POST /chat/completions: starts a run and answers with its output. This hot path bypasses FastAPI."""

import logging
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from portico.client import MultiplexedStream, PorticoError
from portico.gateways.http.core_connection import CoreConnection, caller_metadata, idempotency_key
from portico.gateways.http.request.body import Disconnected, read_json_body
from portico.gateways.http.sse_stream import Frames, StreamRegistry, id_headers, is_stopping_error
from portico.gateways.openai.cancel_unreachable import UnreachableRunCanceller
from portico.gateways.openai.chat.chat_request import ChatRequest, body_schema, chat_request
from portico.gateways.openai.chat.completion import DONE, ChunkedChoice, WholeChoice, dumps, error_frame
from portico.gateways.openai.errors import (
    OpenAiError,
    error_response,
    error_text,
    from_core,
    missing,
    request_id,
)
from portico.gateways.openai.json_depth import load
from portico.gateways.openai.models import COMPATIBLE, Agents
from portico.gateways.openai.openapi_errors import errors_by_hand
from portico.v1 import events_pb2 as pb

log = logging.getLogger(__name__)


class Chat:
    """The ASGI application of POST on both of its paths."""

    def __init__(
        self, core: CoreConnection, streams: StreamRegistry, agents: Agents, max_body_bytes: int
    ) -> None:
        self._core = core
        self._streams = streams
        self._agents = agents
        self._max_body_bytes = max_body_bytes
        self._stranded = UnreachableRunCanceller(core)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        id = request_id(scope["headers"])
        try:
            asked = chat_request(load(await read_json_body(scope, receive, self._max_body_bytes)))
            metadata = {**caller_metadata(scope["headers"]), "x-request-id": id}
            await self._name_agent(asked, scope, metadata)
            asked.query.idempotency_key = idempotency_key(scope["headers"])
            stream = self._core.streams.open_query(asked.query, metadata=metadata)
            if asked.stream:
                chunks = _Chunks(asked, id, partial(_NotFound, self._agents, asked.model, metadata, id))
                await self._streams.send(stream, chunks, scope, receive, send)
                self._forget_paused(asked, chunks.choice.response, metadata)
                return
            answer = await self._whole(stream, asked, receive, metadata, id)
            await answer(scope, receive, send)
        except Disconnected:
            pass  # the caller has disconnected
        except Exception as error:
            await error_response(error_text(error, log, id), id)(scope, receive, send)

    async def _name_agent(self, asked: ChatRequest, scope: Scope, metadata: Mapping[str, str]) -> None:
        request = asked.query.request
        if not scope["path"].startswith(COMPATIBLE):
            if not asked.model:
                raise missing("model")
            request.agent_name = asked.model
        elif asked.model:
            if await self._agents.has(asked.model, metadata):
                request.agent_name = asked.model
            else:
                request.parameters.model = asked.model

    async def _whole(
        self,
        stream: MultiplexedStream,
        asked: ChatRequest,
        receive: Receive,
        metadata: Mapping[str, str],
        id: str,
    ) -> Response:
        choice = WholeChoice()
        try:
            await self._streams.whole(stream, receive, choice.take)
        except PorticoError as error:
            if error.reason == "AGENT_NOT_FOUND":
                raise await self._agents.not_found(asked.model, metadata) from None
            raise
        self._forget_paused(asked, choice.response, metadata)
        headers = {"x-request-id": id}
        try:
            answer = Response(dumps(choice.json(asked.model)), 200, headers, "application/json")
        except OpenAiError as error:
            answer = error_response(error, id)
        answer.raw_headers += id_headers(choice.response.id, "")
        return answer

    def _forget_paused(self, asked: ChatRequest, response: pb.Response, metadata: Mapping[str, str]) -> None:
        """Cancels an ephemeral run that asks for input: clients answer by a new call with the whole history,
        so the run would wait for ever.
        """
        if asked.query.ephemeral and response.status == pb.RUN_STATUS_INPUT_REQUIRED:
            self._stranded.cancel(response.id, metadata)


class _Chunks:
    """Renders one stream."""

    def __init__(self, asked: ChatRequest, request_id: str, not_found: Callable[[], Response]) -> None:
        self.choice = ChunkedChoice(asked.model, include_usage=asked.include_usage)
        self._request_id = request_id
        self._not_found = not_found

    def headers(self, run_id: str, frames: Frames | tuple[()]) -> list[tuple[bytes, bytes]]:
        return [(b"x-request-id", self._request_id.encode()), *id_headers(run_id, "")]

    def events(self, frames: Frames) -> list[bytes]:
        pieces = self.choice.frames(frames)
        if self.choice.over:
            pieces.append(b"")  # [DONE] is a frame and needs a piece of its own
        return pieces

    def ended(self, *, stopping: bool) -> bytes:
        if self.choice.over:
            return DONE
        # The stream can't be resumed; if it just ended, it would look like a complete answer.
        return error_frame(from_core(is_stopping_error())) + DONE

    def refusal(self, error: PorticoError) -> Response:
        if error.reason == "AGENT_NOT_FOUND":
            return self._not_found()
        return error_response(from_core(error), self._request_id)

    def failure(self, error: Exception) -> bytes:
        return error_frame(error_text(error, log, self._request_id)) + DONE


class _NotFound(Response):
    """An error answer that lists the existing agents, which it requests when it is sent."""

    def __init__(self, agents: Agents, model: str, metadata: Mapping[str, str], request_id: str) -> None:
        super().__init__()
        self._agents = agents
        self._model = model
        self._metadata = metadata
        self._request_id = request_id

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            error = await self._agents.not_found(self._model, self._metadata)
        except PorticoError as failed:
            error = from_core(failed)
        await error_response(error, self._request_id)(scope, receive, send)


def openapi(path: str) -> dict[str, Any]:
    """Returns the OpenAPI description of the route."""
    return {
        path: {
            "post": {
                "tags": ["chat"],
                "summary": "Run an agent through OpenAI's Chat Completions",
                "description": (
                    "`model` names the agent. With `stream: true`, Server-Sent Events with chunks, ended by "
                    "`data: [DONE]`; otherwise one JSON object."
                ),
                "operationId": "chat_completions" + path.replace("/", "_").replace("-", "_"),
                "requestBody": {
                    "required": True,
                    "content": {"application/json": {"schema": body_schema()}},
                },
                "responses": {
                    "200": {
                        "description": "The answer",
                        "content": {
                            "application/json": {"schema": {"type": "object"}},
                            "text/event-stream": {"schema": {"type": "string"}},
                        },
                    },
                    **errors_by_hand(400, 401, 403, 404, 409, 413, 415, 422, 429, 500, 503, 504),
                },
            }
        }
    }
