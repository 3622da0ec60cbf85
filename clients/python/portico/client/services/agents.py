"""AgentService: the agents of a core, and their endpoints."""

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
        """Lists the agents by name."""
        request = agent_pb2.ListAgentsRequest(page_size=page_size, page_token=page_token)
        return listing(
            self._calls, lambda: self._calls.connection.agents.ListAgents, request, lambda page: page.agents
        )

    async def get(self, name: str = "") -> agent_pb2.Agent:
        """Returns one agent, by default the default agent. Raises NotFound."""
        request = agent_pb2.GetAgentRequest(name=name)
        return (await self._calls.unary(self._calls.connection.agents.GetAgent, request)).agent

    async def call_endpoint(
        self, path: str, body: Json = None, *, agent: str = ""
    ) -> agent_pb2.CallEndpointResponse:
        """Calls the agent's function at the path; returns its result as JSON text.

        Raises:
            NotFound: There is no such agent or path.
            FailedPrecondition: The function streams.
            Aborted: The function raised.
        """
        request = agent_pb2.CallEndpointRequest(agent_name=agent, path=path, body_json=json_text(body))
        return await self._calls.unary(self._calls.connection.agents.CallEndpoint, request)

    async def stream_endpoint(
        self, path: str, body: Json = None, *, agent: str = ""
    ) -> AsyncGenerator[agent_pb2.StreamEndpointResponse, None]:
        """Calls the agent's function at the path and yields its items; closing the iterator ends the
        function.

        A broken call is not repeated.

        Raises:
            NotFound: There is no such agent or path.
            Aborted: The function raised.
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
