"""The core's agents, as far as a gateway must know them; asked again every few seconds."""

import time
from collections.abc import Sequence

from portico.client import Client, InvalidArgument, NotFound
from portico.gateways.a2a.call_context import Caller
from portico.gateways.a2a.errors import invalid
from portico.v1 import agent_pb2

FRESH_SECONDS = 5.0


class Agents:
    """Finds agents by name."""

    def __init__(self, own: Client) -> None:
        """The client is the gateway's own: what a card says anybody may know."""
        self._own = own
        self._known: dict[str, tuple[agent_pb2.Agent, float]] = {}

    async def all(self) -> Sequence[agent_pb2.Agent]:
        """By name, as the gateway itself may know them. Raises PorticoError."""
        return [agent async for agent in self._own.agents.list(page_size=200)]

    async def find(self, name: str) -> agent_pb2.Agent | None:
        """An agent, the default one if unnamed; None if there is none. Raises PorticoError."""
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

    async def of(self, caller: Caller, tenant: str) -> agent_pb2.Agent:
        """The agent that a call is for. Raises InvalidParamsError, PorticoError."""
        if tenant and caller.agent_name and tenant != caller.agent_name:
            raise invalid("tenant", f"this URL is the agent {caller.agent_name!r}")
        agent = await self.find(tenant or caller.agent_name)
        if agent is None:
            raise invalid("tenant", "there is no such agent")
        return agent
