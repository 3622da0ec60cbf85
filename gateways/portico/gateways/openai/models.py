"""GET /models: lists the core's agents as models."""

import asyncio
from collections.abc import Mapping
from typing import Annotated, Any

import orjson
from fastapi import APIRouter, Depends, Request
from pydantic import BaseModel, Field
from starlette.responses import Response

from portico.client import Client, NotFound
from portico.gateways.http.core_connection import CoreConnection, core_connection_of
from portico.gateways.openai.errors import OpenAiError, request_id
from portico.gateways.openai.openapi_errors import errors
from portico.v1 import agent_pb2

routes = APIRouter(prefix="/models", tags=["models"])

# Under this path `model` is a parameter for the default agent, unless it is an agent's name.
COMPATIBLE = "/compatible-mode/"
# Agents have no creation time, and clients expect a constant one: 2026-01-01.
CREATED = 1767225600
_LISTED = 20  # the most names in an error message
_FRESH_SECONDS = 5.0

CoreDep = Annotated[CoreConnection, Depends(core_connection_of)]


class Model(BaseModel):
    """An agent."""

    id: str = Field(description="The agent's name.")
    object: str = "model"
    created: int = Field(description="A constant.")
    owned_by: str = "portico"


class ModelList(BaseModel):
    """The agents, the default one first."""

    object: str = "list"
    data: list[Model]


class Agents:
    """Caches the names of the core's agents for a few seconds."""

    def __init__(self, core: CoreConnection) -> None:
        self._core = core
        self._names: frozenset[str] = frozenset()
        self._asked_at = float("-inf")

    async def has(self, name: str, metadata: Mapping[str, str]) -> bool:
        """Returns whether there is an agent with this name. Raises PorticoError."""
        now = asyncio.get_running_loop().time()
        if now - self._asked_at > _FRESH_SECONDS:
            self._names = frozenset(await self.names(metadata))
            self._asked_at = now
        return name in self._names

    async def names(self, metadata: Mapping[str, str]) -> list[str]:
        """Returns the current names of all agents, the default one first. Raises PorticoError."""
        return [agent.name for agent in await _listed(self._core.client.with_options(metadata=metadata))]

    async def default(self, metadata: Mapping[str, str]) -> str:
        """Returns the name of the default agent; empty if there is none. Raises PorticoError."""
        return next(iter(await self.names(metadata)), "")

    async def check(self, name: str, metadata: Mapping[str, str]) -> None:
        """Raises OpenAiError (404) if no agent has this name, PorticoError."""
        if not await self.has(name, metadata):
            names = await self.names(metadata)  # the cache may miss new agents
            if name not in names:
                raise model_not_found(name, names)

    async def not_found(self, name: str, metadata: Mapping[str, str]) -> OpenAiError:
        """Returns the error for a name that no agent has. Raises PorticoError."""
        return model_not_found(name, await self.names(metadata))


def model_not_found(name: str, names: list[str]) -> OpenAiError:
    """Returns the error (404) for an unknown agent, with the names of the existing ones."""
    listed = ", ".join(names[:_LISTED]) + (", ..." if len(names) > _LISTED else "")
    message = f"The model '{name}' does not exist. The agents of this server are: {listed or 'none'}."
    return OpenAiError(message, status=404, code="model_not_found", param="model")


async def _listed(client: Client) -> list[agent_pb2.Agent]:
    agents = [agent async for agent in client.agents.list(page_size=200)]
    return sorted(agents, key=lambda agent: not agent.is_default)


def _model(agent: agent_pb2.Agent) -> dict[str, Any]:
    return {"id": agent.name, "object": "model", "created": CREATED, "owned_by": "portico"}


def _answer(value: dict[str, Any], request: Request) -> Response:
    headers = {"x-request-id": request_id(request.scope["headers"])}
    return Response(orjson.dumps(value), 200, headers, "application/json")


@routes.get("", responses={200: {"model": ModelList}, **errors()})
async def list_models(request: Request, core: CoreDep) -> Response:
    """Lists the agents, the default one first."""
    agents = await _listed(core.client_for(request))
    return _answer({"object": "list", "data": [_model(agent) for agent in agents]}, request)


@routes.get("/{model:path}", responses={200: {"model": Model}, **errors(404)})
async def retrieve_model(model: str, request: Request, core: CoreDep) -> Response:
    """Returns one agent."""
    client = core.client_for(request)
    try:
        return _answer(_model(await client.agents.get(model)), request)
    except NotFound:
        raise model_not_found(model, [agent.name for agent in await _listed(client)]) from None
