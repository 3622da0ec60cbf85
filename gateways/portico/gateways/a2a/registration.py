"""Where cards are announced: an interface, so that a registry can be plugged in."""

from typing import Protocol

from a2a.types import a2a_pb2 as a2a

from portico.gateways.a2a.agents import Agents
from portico.gateways.a2a.caller import Caller
from portico.gateways.a2a.cards import Cards


class Registration(Protocol):
    """A registry of agents, such as Nacos. What it raises is logged, and the gateway goes on without it."""

    async def register(self, card: a2a.AgentCard) -> None:
        """An agent can be reached from now on where its card says."""
        ...


async def announce(registration: Registration, agents: Agents, cards: Cards) -> None:
    """Register all agents of the core, each under its own URL. Needs `public_url`: nobody has asked yet."""
    for agent in await agents.all(Caller()):
        await registration.register(cards.card(agent, Caller(agent_name=agent.name)))
