"""REST routes for agents. An agent's own endpoints are served by agent_endpoints.py."""

from typing import Any

from fastapi import APIRouter, Request
from starlette.responses import Response

from portico.gateways.sse.json_routes import CoreDep, PageSize, PageToken, answer, errors
from portico.gateways.sse.stored_schemas import AgentModel, AgentPage
from portico.v1 import agent_pb2

routes = APIRouter(prefix="/agents", tags=["agents"])


def _agent(agent: agent_pb2.Agent) -> dict[str, Any]:
    return {
        "name": agent.name,
        "description": agent.description,
        "version": agent.version,
        "input_modes": list(agent.input_modes),
        "output_modes": list(agent.output_modes),
        "skills": [
            {
                "id": skill.id,
                "name": skill.name,
                "description": skill.description,
                "tags": list(skill.tags),
                "examples": list(skill.examples),
            }
            for skill in agent.skills
        ],
        "endpoints": [
            {
                "path": endpoint.path,
                "methods": list(endpoint.methods),
                "streaming": endpoint.streaming,
                "description": endpoint.description,
            }
            for endpoint in agent.endpoints
        ],
        "is_default": agent.is_default,
    }


@routes.get("", responses={200: {"model": AgentPage}, **errors()})
async def list_agents(
    request: Request, core: CoreDep, page_size: PageSize = 0, page_token: PageToken = ""
) -> Response:
    """Lists the agents by name."""
    page = await core.client_for(request).agents.list(page_size=page_size, page_token=page_token).page()
    return answer({"agents": [_agent(item) for item in page.agents], "next_page_token": page.next_page_token})


@routes.get("/{name}", responses={200: {"model": AgentModel}, **errors(404)})
async def get_agent(name: str, request: Request, core: CoreDep) -> Response:
    """Returns one agent."""
    return answer(_agent(await core.client_for(request).agents.get(name)))
