"""The agents' own endpoints: whatever no route of this gateway takes may be one of theirs.

The default agent's are at their own path, every agent's at
/agents/{name}/endpoints{path}. An endpoint that streams is framed as the
reference frames it: `data:` lines, and an error event where it fails.
"""

import time
from collections.abc import AsyncGenerator, AsyncIterator
from typing import Any

import orjson
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse

from portico.client import Aborted, PorticoError
from portico.gateways.sse.body import read_json_body
from portico.gateways.sse.core import Core
from portico.gateways.sse.errors import BadRequest, from_core, from_status
from portico.v1 import agent_pb2

KNOWN_SECONDS = 5.0


class Endpoints:
    """Finds and calls endpoints; what the core told of its agents is remembered for some seconds."""

    def __init__(self, core: Core, max_body_bytes: int) -> None:
        self._core = core
        self._max_body_bytes = max_body_bytes
        self._agents: dict[str, agent_pb2.Agent] = {}
        self._known_until = 0.0

    async def call(self, request: Request) -> Response:
        """The endpoint's answer; 404 or 405 where there is none."""
        found = await self._find(request.url.path)
        if found is None:
            return from_status(404)
        agent, endpoint = found
        if request.method not in endpoint.methods:
            return from_status(405, {"allow": ", ".join(endpoint.methods)})
        body = await self._body(request)
        agents = self._core.of(request).agents
        if endpoint.streaming:
            items = agents.stream_endpoint(endpoint.path, body, agent=agent)
            headers = {"cache-control": "no-cache", "x-accel-buffering": "no"}
            return StreamingResponse(_events(items), 200, headers, "text/event-stream")
        try:
            called = await agents.call_endpoint(endpoint.path, body, agent=agent)
        except Aborted as error:
            return Response(orjson.dumps(_failure(error)), 500, media_type="application/json")
        except PorticoError as error:
            return from_core(error)
        return Response(called.result_json, 200, media_type="application/json")

    async def _find(self, path: str) -> tuple[str, agent_pb2.Endpoint] | None:
        agents = await self._known()
        name = ""
        if path.startswith("/agents/"):
            name, _, path = path.removeprefix("/agents/").partition("/endpoints")
        for agent in agents.values():
            if agent.name == name or (not name and agent.is_default):
                for endpoint in agent.endpoints:
                    if endpoint.path == path:
                        return agent.name, endpoint
        return None

    async def _known(self) -> dict[str, agent_pb2.Agent]:
        if time.monotonic() > self._known_until:
            agents = {agent.name: agent async for agent in self._core.client.agents.list()}
            self._agents = agents
            self._known_until = time.monotonic() + KNOWN_SECONDS
        return self._agents

    async def _body(self, request: Request) -> Any:
        if request.method in ("GET", "HEAD", "DELETE"):
            return {name: _value(value) for name, value in request.query_params.items()}
        if request.headers.get("content-length", "0") == "0" and "transfer-encoding" not in request.headers:
            return {}
        data = await read_json_body(request.scope, request.receive, self._max_body_bytes)
        try:
            return orjson.loads(data)
        except orjson.JSONDecodeError as error:
            raise BadRequest(f"the body is not JSON: {error}", status=400) from None


def _value(text: str) -> Any:
    """A query parameter, as the JSON value that it looks like, else as text."""
    try:
        return orjson.loads(text)
    except orjson.JSONDecodeError:
        return text


def _failure(error: PorticoError) -> dict[str, Any]:
    return {
        "error": error.message,
        "error_type": error.metadata.get("error_type", error.reason),
        "message": "Error in streaming generator",
    }


async def _events(items: AsyncGenerator[agent_pb2.StreamEndpointResponse, None]) -> AsyncIterator[bytes]:
    try:
        async for item in items:
            yield b"data: %b\n\n" % item.item_json.encode()
    except PorticoError as error:
        yield b"data: %b\n\n" % orjson.dumps(_failure(error))
    finally:
        await items.aclose()
