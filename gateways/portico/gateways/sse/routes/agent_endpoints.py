"""Serves the agents' own endpoints, under every path that no route of this gateway takes.

The default agent's endpoints have their own path, every agent's are also at /agents/{name}/endpoints{path}. A
streaming endpoint is framed as in AgentScope Runtime: `data:` lines, and an error event if it fails.
"""

import time
from collections.abc import AsyncGenerator
from typing import Any

import orjson
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse

from portico.client import Aborted, JsonText, PorticoError
from portico.gateways.http.core_connection import CoreConnection
from portico.gateways.http.errors import BadRequest
from portico.gateways.http.request.body import cancel_on_disconnect, read_json_body
from portico.gateways.sse.errors import error_response, from_status
from portico.v1 import agent_pb2

KNOWN_SECONDS = 5.0
_HEADERS = {"cache-control": "no-cache", "x-accel-buffering": "no"}
_Items = AsyncGenerator[agent_pb2.StreamEndpointResponse, None]


class AgentEndpoints:
    """Finds and calls endpoints. The core's list of agents is cached for KNOWN_SECONDS."""

    def __init__(self, core: CoreConnection, max_body_bytes: int) -> None:
        self._core = core
        self._max_body_bytes = max_body_bytes
        self._agents: list[agent_pb2.Agent] = []
        self._known_until = 0.0

    async def call(self, request: Request) -> Response:
        """Returns the endpoint's answer: 404 without such an endpoint, 405 for a wrong method. Raises
        BadRequest, PorticoError.
        """
        found = await self._find(request)
        if found is None:
            return from_status(404)
        agent, endpoint = found
        if request.method not in endpoint.methods:
            return from_status(405, {"allow": ", ".join(endpoint.methods)})
        body = await self._body(request)
        agents = self._core.client_for(request).agents
        if endpoint.streaming:
            return await _stream(request, agents.stream_endpoint(endpoint.path, body, agent=agent))
        try:
            called = await agents.call_endpoint(endpoint.path, body, agent=agent)
        except Aborted as error:
            return error_response(500, error.reason, error.message, error.metadata)
        return Response(called.result_json, 200, media_type="application/json")

    async def _find(self, request: Request) -> tuple[str, agent_pb2.Endpoint] | None:
        name, path = "", request.url.path
        if path.startswith("/agents/"):
            name, _, path = path.removeprefix("/agents/").partition("/endpoints")
        for agent in await self._known(request):
            if agent.name == name or (not name and agent.is_default):
                for endpoint in agent.endpoints:
                    if endpoint.path == path:
                        return agent.name, endpoint
        return None

    async def _known(self, request: Request) -> list[agent_pb2.Agent]:
        if time.monotonic() > self._known_until:
            # Uses the caller's credential: the gateway has none of its own.
            self._agents = [agent async for agent in self._core.client_for(request).agents.list()]
            self._known_until = time.monotonic() + KNOWN_SECONDS
        return self._agents

    async def _body(self, request: Request) -> JsonText:
        if request.method in ("GET", "HEAD", "DELETE"):
            given = {name: _value(value) for name, value in request.query_params.items()}
            return JsonText(orjson.dumps(given).decode())
        if request.headers.get("content-length", "0") == "0" and "transfer-encoding" not in request.headers:
            return JsonText("{}")
        data = await read_json_body(request.scope, request.receive, self._max_body_bytes)
        try:
            orjson.loads(data)
            return JsonText(data.decode())
        except (orjson.JSONDecodeError, UnicodeDecodeError) as error:
            raise BadRequest(f"the body is not JSON: {error}", status=400) from None


def _value(text: str) -> Any:
    """Parses a query parameter: a number, true, false or null if it is one, else the text."""
    try:
        value = orjson.loads(text)
    except orjson.JSONDecodeError:
        return text
    return text if isinstance(value, str | list | dict) else value


async def _stream(request: Request, items: _Items) -> Response:
    """Streams an endpoint's items. Errors before the first item are HTTP errors, except those of the agent's
    code.
    """
    head: list[bytes] = []
    try:
        first = await cancel_on_disconnect(request.receive, _first(items))
        if first is not None:
            head.append(_data(first.item_json.encode()))
    except Aborted as error:
        head.append(_failure(error))
    return StreamingResponse(_events(head, items), 200, _HEADERS, "text/event-stream")


async def _first(items: _Items) -> agent_pb2.StreamEndpointResponse | None:
    return await anext(items, None)


async def _events(head: list[bytes], items: _Items) -> AsyncGenerator[bytes, None]:
    try:
        for line in head:
            yield line
        async for item in items:
            yield _data(item.item_json.encode())
    except PorticoError as error:
        yield _failure(error)
    finally:
        await items.aclose()


def _data(json: bytes) -> bytes:
    return b"data: %b\n\n" % json


def _failure(error: PorticoError) -> bytes:
    return _data(
        orjson.dumps(
            {
                "error": error.message,
                "error_type": error.metadata.get("error_type", error.reason or error.code.name),
                "message": "Error in streaming generator",
            }
        )
    )
