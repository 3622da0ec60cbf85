"""Agent hosts: where agents' code runs. In this process (`local`), or in processes of its own (`workers`).

A host knows how to call an agent and nothing of logs: it feeds what the agent
yields to a sink and lets exceptions through.
"""

from collections.abc import AsyncIterator, Sequence
from typing import Any, Protocol

from portico.agent import AgentApp, Context


class AgentStartFailed(Exception):
    """An agent could not be initialised; the message says which one, and why."""


class Sink(Protocol):
    """Takes what an agent yields."""

    @property
    def crowded(self) -> bool: ...

    async def room(self) -> None: ...

    def emit(self, item: object) -> None: ...


class AgentHost(Protocol):
    """Runs agents. Every method raises AgentNotFound for a name it does not know."""

    @property
    def agents(self) -> Sequence[AgentApp]:
        """By name; the first of `names` is the default."""
        ...

    def find(self, name: str) -> AgentApp:
        """An empty name finds the default agent."""
        ...

    async def start(self) -> None:
        """Initialise all agents. Raises AgentStartFailed."""
        ...

    async def stop(self) -> None:
        """Shut all agents down, each one even if another fails."""
        ...

    async def execute(self, app: AgentApp, context: Context, sink: Sink) -> None:
        """Run the query function to its end; on return nothing of it is left.

        Raises what the agent raises, and Rejection when the agent refuses.
        """
        ...

    async def call_endpoint(self, app: AgentApp, path: str, body: Any) -> Any:
        """Raises EndpointNotFound, EndpointStreams, EndpointFailed."""
        ...

    def stream_endpoint(self, app: AgentApp, path: str, body: Any) -> AsyncIterator[Any]:
        """Raises EndpointNotFound, EndpointFailed."""
        ...
