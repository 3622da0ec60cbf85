"""Looks up the core's agents, with a cache of a few seconds."""

import time
from collections.abc import Sequence

from portico.client import Client, InvalidArgument, NotFound
from portico.gateways.a2a.call_context import Caller
from portico.gateways.a2a.errors import invalid
from portico.v1 import agent_pb2

FRESH_SECONDS = 5.0


class AgentDirectory:
    """Finds agents by name."""

    def __init__(self, own: Client) -> None:
        """`own` is a client with the gateway's own credential, since cards are public."""
        self._own = own
        self._known: dict[str, tuple[agent_pb2.Agent, float]] = {}

    async def all(self) -> Sequence[agent_pb2.Agent]:
        """Returns all agents that the gateway's credential may see, by name. Raises PorticoError."""
        return [agent async for agent in self._own.agents.list(page_size=200)]

    async def find(self, name: str) -> agent_pb2.Agent | None:
        """Returns an agent, the default one for an empty name; None if there is none. Raises PorticoError."""
        now = time.monotonic()
        known, until = self._known.get(name, (None, now))
        if until > now:
            return known
        try:
            known = await self._own.agents.get(name)
        except (NotFound, InvalidArgument):
            self._known.pop(name, None)
            return None
        self._known[name] = known, now + FRESH_SECONDS
        return known

    async def agent_for(self, caller: Caller, tenant: str) -> agent_pb2.Agent:
        """Returns the agent that a call addresses. Raises InvalidParamsError, PorticoError."""
        if tenant and caller.agent_name and tenant != caller.agent_name:
            raise invalid(
                "tenant", f"does not match this URL, which is that of the agent {caller.agent_name!r}"
            )
        agent = await self.find(tenant or caller.agent_name)
        if agent is None:
            raise invalid("tenant", "unknown agent")
        return agent
