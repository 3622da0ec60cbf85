"""The core's agents, as far as a gateway must know them; asked again every few seconds."""

import time
from collections.abc import Sequence

from a2a.types import a2a_pb2 as a2a
from a2a.utils.errors import ContentTypeNotSupportedError

from portico.gateways.a2a.caller import Caller
from portico.gateways.a2a.errors import invalid
from portico.gateways.http.core import Core
from portico.v1 import agent_pb2

FRESH_SECONDS = 5.0
_ANY = ("*", "*/*")


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


def check_modes(message: a2a.Message, agent: agent_pb2.Agent) -> None:
    """Raises ContentTypeNotSupportedError for a part whose media type the agent does not read."""
    modes = {mode.lower() for mode in agent.input_modes}
    if not modes or modes & {*_ANY}:
        return
    for part in message.parts:
        media_type = (part.media_type or _implied(part)).partition(";")[0].strip().lower()
        family = f"{media_type.partition('/')[0]}/*"
        if media_type and not modes & {media_type, family}:
            raise ContentTypeNotSupportedError(
                message=f"The agent does not read {media_type}; it reads {', '.join(sorted(modes))}",
                data={"mediaType": media_type},
            )


def _implied(part: a2a.Part) -> str:
    """The type of a part that does not say it: raw bytes and URLs may be anything."""
    match part.WhichOneof("content"):
        case "text":
            return "text/plain"
        case "data":
            return "application/json"
    return ""
