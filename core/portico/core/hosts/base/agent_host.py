"""Agent host: the interface through which the core executes agents' code.

A host executes agents in this process (`local`) or in worker processes. It knows nothing of logs: it passes
the items that the agent yields to a sink and lets exceptions through.
"""

from collections.abc import AsyncIterator, Sequence
from typing import Any, Protocol

from portico.agent import AgentApp, Context


class AgentStartFailed(Exception):
    """An agent could not be initialised; the message names the agent and the reason."""


class RunSink(Protocol):
    """Receives the items that an agent yields."""

    @property
    def needs_drain(self) -> bool:
        """Whether the agent must wait for `room` before it yields more."""
        ...

    async def drain(self) -> None:
        """Return when the sink accepts more items."""
        ...

    def emit(self, item: object) -> None:
        """Take an item. Raises TypeError if an agent may not yield it."""
        ...


class AgentHost(Protocol):
    """Executes agents. Every method raises AgentNotFound for an unknown agent."""

    @property
    def agents(self) -> Sequence[AgentApp]:
        """All agents, sorted by name."""
        ...

    def find(self, name: str) -> AgentApp:
        """The agent of that name; an empty name means the default agent. Raises AgentNotFound."""
        ...

    async def start(self) -> None:
        """Initialise all agents. Raises AgentStartFailed."""
        ...

    async def stop(self) -> None:
        """Shut all agents down, also if one of them fails."""
        ...

    async def execute(self, app: AgentApp, context: Context, sink: RunSink) -> None:
        """Run the query function to its end; on return nothing of it is left.

        Raises:
            Rejection: The agent rejects the request.
            BaseException: Any exception of the agent.
        """
        ...

    async def call_endpoint(self, app: AgentApp, path: str, body: Any) -> Any:
        """Call an endpoint. Raises EndpointNotFound, EndpointIsStreaming, EndpointFailed."""
        ...

    def stream_endpoint(self, app: AgentApp, path: str, body: Any) -> AsyncIterator[Any]:
        """Yield the items of an endpoint. Raises EndpointNotFound, EndpointFailed."""
        ...
