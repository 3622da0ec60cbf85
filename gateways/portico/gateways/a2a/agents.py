"""The core's agents, as far as a gateway must know them; asked again every few seconds."""

import time
from collections.abc import Sequence

from portico.gateways.a2a.caller import Caller
from portico.gateways.a2a.errors import invalid
from portico.gateways.http.core import Core
from portico.v1 import agent_pb2

FRESH_SECONDS = 5.0


class Agents:
    """Finds agents by name."""

    def __init__(self, core: Core) -> None:
        self._core = core
        self._known: Sequence[agent_pb2.Agent] = ()
        self._until = float("-inf")

    async def all(self, caller: Caller) -> Sequence[agent_pb2.Agent]:
        """By name. Raises PorticoError."""
        if time.monotonic() > self._until:
            # A core that wants a credential gets the caller's: the gateway has none.
            client = self._core.client.with_options(metadata=caller.metadata)
            self._known = [agent async for agent in client.agents.list(page_size=200)]
            self._until = time.monotonic() + FRESH_SECONDS
        return self._known

    async def find(self, name: str, caller: Caller) -> agent_pb2.Agent | None:
        """An agent, the default one if unnamed; None if there is none. Raises PorticoError."""
        for agent in await self.all(caller):
            if agent.name == name or (not name and agent.is_default):
                return agent
        return None

    async def of(self, caller: Caller, tenant: str) -> agent_pb2.Agent:
        """The agent that a call is for. Raises InvalidParamsError, PorticoError."""
        if tenant and caller.agent_name and tenant != caller.agent_name:
            raise invalid("tenant", f"this URL is the agent {caller.agent_name!r}")
        agent = await self.find(tenant or caller.agent_name, caller)
        if agent is None:
            raise invalid("tenant", "there is no such agent")
        return agent
