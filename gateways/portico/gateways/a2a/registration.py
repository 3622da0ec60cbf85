"""Where cards are announced: an interface, so that a registry can be plugged in."""

import asyncio
import logging
from typing import Protocol

from a2a.types import a2a_pb2 as a2a

from portico.client import PorticoError
from portico.gateways.a2a.agent_directory import Agents
from portico.gateways.a2a.call_context import Caller
from portico.gateways.a2a.cards import Cards
from portico.telemetry.log.retry_log import Rarely

log = logging.getLogger(__name__)

AGAIN_SECONDS = 2.0


class Registration(Protocol):
    """A registry of agents, such as Nacos. What it raises is logged, and the gateway goes on without it."""

    async def register(self, card: a2a.AgentCard) -> None:
        """An agent can be reached from now on where its card says."""
        ...


async def announce(registration: Registration, agents: Agents, cards: Cards) -> None:
    """Register all agents of the core, each under its own URL. Needs `public_url`: nobody has asked yet."""
    unknown = Rarely()
    while True:
        try:
            found = await agents.all()
            break
        except PorticoError as error:
            if unknown.due():
                log.info("the core's agents are not known yet: %s", error)
            await asyncio.sleep(AGAIN_SECONDS)
    for agent in found:
        try:
            await registration.register(cards.card(agent, Caller(agent_name=agent.name)))
        except Exception:
            log.exception("agent %s was not registered", agent.name)
