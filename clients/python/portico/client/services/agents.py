"""AgentService: which agents a core serves, and their endpoints."""

from collections.abc import AsyncGenerator

from portico.client import rate_limits
from portico.client.convert import Json, json_text
from portico.client.errors import typed_errors
from portico.client.paging import Listing, listing
from portico.client.service import Service
from portico.v1 import agent_pb2


class Agents(Service):
    """A core's agents. Every method raises PorticoError."""

    def list(
        self, *, page_size: int = 0, page_token: str = ""
    ) -> Listing[agent_pb2.ListAgentsResponse, agent_pb2.Agent]:
        """The agents by name."""
        request = agent_pb2.ListAgentsRequest(page_size=page_size, page_token=page_token)
        return listing(
            self._calls, lambda: self._calls.connection.agents.ListAgents, request, lambda page: page.agents
        )

    async def get(self, name: str = "") -> agent_pb2.Agent:
        """One agent, the default one if unnamed. Raises NotFound."""
        request = agent_pb2.GetAgentRequest(name=name)
        return (await self._calls.unary(self._calls.connection.agents.GetAgent, request)).agent

    async def call_endpoint(
        self, path: str, body: Json = None, *, agent: str = ""
    ) -> agent_pb2.CallEndpointResponse:
        """What the agent's function at the path returns, as JSON text.

        Raises NotFound; FailedPrecondition when it streams; Aborted when it raised.
        """
        request = agent_pb2.CallEndpointRequest(agent_name=agent, path=path, body_json=json_text(body))
        return await self._calls.unary(self._calls.connection.agents.CallEndpoint, request)

    async def stream_endpoint(
        self, path: str, body: Json = None, *, agent: str = ""
    ) -> AsyncGenerator[agent_pb2.StreamEndpointResponse, None]:
        """What the agent's function at the path yields; closing the iterator ends the function.

        Raises NotFound; Aborted when the function raised. What broke is not called again.
        """
        request = agent_pb2.StreamEndpointRequest(agent_name=agent, path=path, body_json=json_text(body))
        with typed_errors():
            call = self._calls.connection.agents.StreamEndpoint(request, metadata=self._calls.metadata)
            try:
                if (told := rate_limits.observer()) is not None:
                    rate_limits.from_metadata(await call.initial_metadata(), told)
                while isinstance(item := await call.read(), agent_pb2.StreamEndpointResponse):
                    yield item
            finally:
                call.cancel()
