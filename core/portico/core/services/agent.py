"""AgentService: lists the agents and calls their endpoints."""

from collections.abc import AsyncIterator
from typing import Any

import orjson
from grpc.aio import ServicerContext

from portico.agent import AgentApp
from portico.core.convert.requests import check_id
from portico.core.errors import EndpointFailed, InvalidArgument
from portico.core.hosts.base.agent_host import AgentHost
from portico.core.services.rpc.current_principal import current_principal, is_anonymous, resolve_owner
from portico.core.services.rpc.page_tokens import decode_token, encode_token, page_size
from portico.model.identity import user_of
from portico.v1 import agent_pb2 as pb

BODY_CHARACTERS = 4 * 1024 * 1024


class AgentService:
    """Serves the agents of one host."""

    def __init__(self, host: AgentHost, *, needs_credential: bool) -> None:
        self._host = host
        self._needs_credential = needs_credential

    async def ListAgents(
        self, request: pb.ListAgentsRequest, context: ServicerContext
    ) -> pb.ListAgentsResponse:
        size = page_size(request.page_size)
        place = decode_token(request.page_token, str)
        apps = [app for app in self._host.agents if place is None or app.name > str(place[0])]
        token = encode_token(apps[size - 1].name) if len(apps) > size else ""
        return pb.ListAgentsResponse(agents=[self._agent(app) for app in apps[:size]], next_page_token=token)

    async def GetAgent(self, request: pb.GetAgentRequest, context: ServicerContext) -> pb.GetAgentResponse:
        name = check_id(request.name, "name", required=False)
        agent = self._agent(self._host.find(name))
        if is_anonymous():
            agent.ClearField("endpoints")
        return pb.GetAgentResponse(agent=agent)

    async def CallEndpoint(
        self, request: pb.CallEndpointRequest, context: ServicerContext
    ) -> pb.CallEndpointResponse:
        app, path = self._target(request)
        result = await self._host.call_endpoint(app, path, _as_caller(_body(request.body_json)))
        return pb.CallEndpointResponse(result_json=_json(result))

    async def StreamEndpoint(
        self, request: pb.StreamEndpointRequest, context: ServicerContext
    ) -> AsyncIterator[pb.StreamEndpointResponse]:
        app, path = self._target(request)
        items = self._host.stream_endpoint(app, path, _as_caller(_body(request.body_json)))
        try:
            async for item in items:
                yield pb.StreamEndpointResponse(item_json=_json(item))
        finally:
            await items.aclose()  # type: ignore[attr-defined]

    def _target(self, request: pb.CallEndpointRequest | pb.StreamEndpointRequest) -> tuple[AgentApp, str]:
        name = check_id(request.agent_name, "agent_name", required=False)
        return self._host.find(name), check_id(request.path, "path")

    def _agent(self, app: AgentApp) -> pb.Agent:
        return pb.Agent(
            name=app.name,
            description=app.description,
            version=app.version,
            input_modes=app.input_modes,
            output_modes=app.output_modes,
            skills=[
                pb.Skill(
                    id=skill.id,
                    name=skill.name,
                    description=skill.description,
                    tags=skill.tags,
                    examples=skill.examples,
                )
                for skill in app.skills
            ],
            endpoints=[
                pb.Endpoint(
                    path=endpoint.path,
                    methods=endpoint.methods,
                    streaming=endpoint.streaming,
                    description=endpoint.description,
                )
                for endpoint in app.endpoints.values()
            ],
            is_default=app is self._host.find(""),
            answers_directly=app.answers_directly,
            needs_credential=self._needs_credential,
        )


def _body(text: str) -> Any:
    if len(text) > BODY_CHARACTERS:
        raise InvalidArgument("body_json", f"more than {BODY_CHARACTERS} characters")
    try:
        return orjson.loads(text) if text else None
    except orjson.JSONDecodeError as error:
        raise InvalidArgument("body_json", f"not JSON: {error}") from None


def _as_caller(body: Any) -> Any:
    """Checks and sets the user_id of an object, as in every other request. Raises as owner_of."""
    if current_principal().trusts_request_user or not isinstance(body, dict):
        return body
    user_id = body.get("user_id") or ""
    if not isinstance(user_id, str):
        raise InvalidArgument("body_json.user_id", "must be a text")
    return {**body, "user_id": user_of(resolve_owner(user_id, "body_json.user_id"))}


def _json(value: Any) -> str:
    try:
        return orjson.dumps(value).decode()
    except (TypeError, ValueError) as error:
        raise EndpointFailed(
            f"the endpoint's result can't be encoded as JSON: {error}", error_type=type(error).__name__
        ) from None
