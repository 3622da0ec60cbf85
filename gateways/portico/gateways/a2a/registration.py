"""Interface for registries of agents, to which the gateway announces its cards."""

import asyncio
import logging
from typing import Protocol

from a2a.types import a2a_pb2 as a2a

from portico.client import PorticoError
from portico.gateways.a2a.agent_directory import AgentDirectory
from portico.gateways.a2a.call_context import Caller
from portico.gateways.a2a.cards import Cards
from portico.telemetry.log.retry_log import RetryLog

log = logging.getLogger(__name__)

AGAIN_SECONDS = 2.0


class Registration(Protocol):
    """A registry of agents, such as Nacos. Its exceptions are logged, and the gateway works without it."""

    async def register(self, card: a2a.AgentCard) -> None:
        """Registers an agent, which is reachable at the URLs in its card."""
        ...


async def announce(registration: Registration, agents: AgentDirectory, cards: Cards) -> None:
    """Registers all agents of the core, each under its own URL. Requires `public_url`, since there is no
    request to take the host from.
    """
    unknown = RetryLog()
    while True:
        try:
            found = await agents.all()
            break
        except PorticoError as error:
            if unknown.due():
                log.info("can't list the core's agents yet, will try again: %s", error)
            await asyncio.sleep(AGAIN_SECONDS)
    for agent in found:
        try:
            await registration.register(cards.card(agent, Caller(agent_name=agent.name)))
        except Exception:
            log.exception("could not register agent %s", agent.name)
