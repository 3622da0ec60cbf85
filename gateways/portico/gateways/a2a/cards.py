"""Agent cards: describe what an agent can do and where to reach it; signed if there is a key."""

import hashlib
from collections import OrderedDict
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

import orjson
from a2a.server.request_handlers.response_helpers import agent_card_to_dict
from a2a.types import a2a_pb2 as a2a
from a2a.utils.constants import AGENT_CARD_WELL_KNOWN_PATH, PROTOCOL_VERSION_0_3, PROTOCOL_VERSION_1_0
from a2a.utils.errors import UnsupportedOperationError
from google.protobuf.json_format import ParseDict

from portico.gateways.a2a.call_context import Caller
from portico.gateways.a2a.errors import UnauthenticatedError
from portico.gateways.a2a.settings import A2aSettings
from portico.gateways.a2a.signing import Sign, card_signer
from portico.v1 import agent_pb2

CARD_PATH = AGENT_CARD_WELL_KNOWN_PATH
DEFAULT_PATH = "/a2a"  # of the default agent; the others are below the agent's name
_KEPT = 256  # the most cards in memory; bounded, since callers choose the host in the key


@dataclass(frozen=True, slots=True)
class ServedCard:
    """A card as it is sent."""

    body: bytes
    etag: str


def agent_path(name: str) -> str:
    """Returns the path of an agent's interface."""
    return f"/agents/{quote(name, safe='')}{DEFAULT_PATH}"


class Cards:
    """The cards of a core's agents."""

    def __init__(self, settings: A2aSettings) -> None:
        self._settings = settings
        self._sign: Sign | None = card_signer(settings)
        self._served: OrderedDict[tuple[bytes, str, str], ServedCard] = OrderedDict()
        self._extended: dict[str, Any] = {}
        if settings.extended_card is not None:
            self._extended = orjson.loads(settings.extended_card.read_bytes())
        self.grpc_url = settings.grpc_url or settings.grpc_listen

    def serve(self, agent: agent_pb2.Agent, caller: Caller) -> ServedCard:
        """Returns the card for the URL that the caller used."""
        key = (agent.SerializeToString(deterministic=True), caller.agent_name, caller.site)
        served = self._served.get(key)
        if served is None:
            card = self.card(agent, caller)
            content = orjson.dumps(agent_card_to_dict(card), option=orjson.OPT_SORT_KEYS)
            # Computed without the signature, which differs each time.
            etag = f'W/"{hashlib.sha256(content).hexdigest()[:32]}"'
            body = orjson.dumps(agent_card_to_dict(self._signed(card)))
            served = self._served[key] = ServedCard(body, etag)
        self._served.move_to_end(key)
        while len(self._served) > _KEPT:
            self._served.popitem(last=False)
        return served

    def card(self, agent: agent_pb2.Agent, caller: Caller) -> a2a.AgentCard:
        """Returns the public card, unsigned."""
        card = a2a.AgentCard(
            name=agent.name,
            description=agent.description or f"The agent {agent.name}.",
            version=agent.version or "1.0.0",
            supported_interfaces=self._interfaces(agent, caller),
            capabilities=a2a.AgentCapabilities(
                streaming=True,
                push_notifications=self._settings.push,
                extended_agent_card=self._has_extended(agent),
            ),
            default_input_modes=agent.input_modes or ["text/plain"],
            default_output_modes=agent.output_modes or ["text/plain"],
            skills=[_skill(skill) for skill in agent.skills] or [_whole(agent)],
        )
        if self._guarded(agent):
            scheme = card.security_schemes["bearer"].http_auth_security_scheme
            scheme.scheme = "Bearer"
            scheme.description = "An API key, or a JWT." if agent.needs_credential else ""
            card.security_requirements.add().schemes["bearer"].SetInParent()
        return card

    def extended(self, agent: agent_pb2.Agent, caller: Caller) -> a2a.AgentCard:
        """Returns the card with additional content for authenticated callers.

        Raises UnsupportedOperationError, UnauthenticatedError.
        """
        if not self._has_extended(agent):
            raise UnsupportedOperationError(message="The agent has no extended card")
        if "authorization" not in caller.metadata:
            raise UnauthenticatedError(message="The extended card requires a credential")
        card = self.card(agent, caller)
        more = a2a.AgentCard()
        ParseDict(self._extended[agent.name], more, ignore_unknown_fields=True)
        card.MergeFrom(more)
        return self._signed(card)

    def _guarded(self, agent: agent_pb2.Agent) -> bool:
        """Returns whether calls need a credential: for the core, or for a proxy that the operator has
        set up.
        """
        return agent.needs_credential or self._settings.bearer

    def _has_extended(self, agent: agent_pb2.Agent) -> bool:
        return self._guarded(agent) and agent.name in self._extended

    def _signed(self, card: a2a.AgentCard) -> a2a.AgentCard:
        return card if self._sign is None else self._sign(card)

    def _interfaces(self, agent: agent_pb2.Agent, caller: Caller) -> list[a2a.AgentInterface]:
        """Returns the interfaces, the newer version first: clients use the first one that they support."""
        named = caller.agent_name
        site = self._settings.public_url.rstrip("/") or caller.site
        url = site + (agent_path(named) if named else DEFAULT_PATH)
        interfaces = [
            a2a.AgentInterface(url=url, protocol_binding=binding, protocol_version=version)
            for version in (PROTOCOL_VERSION_1_0, PROTOCOL_VERSION_0_3)
            for binding in ("JSONRPC", "HTTP+JSON")
        ]
        if self.grpc_url:
            # All agents share the port; the tenant, which 0.3 lacks, selects the agent.
            grpc = a2a.AgentInterface(
                url=self.grpc_url,
                protocol_binding="GRPC",
                protocol_version=PROTOCOL_VERSION_1_0,
                tenant=agent.name if named else "",
            )
            interfaces.insert(2, grpc)
            if agent.is_default:
                interfaces.append(
                    a2a.AgentInterface(
                        url=self.grpc_url, protocol_binding="GRPC", protocol_version=PROTOCOL_VERSION_0_3
                    )
                )
        return interfaces


def _skill(skill: agent_pb2.Skill) -> a2a.AgentSkill:
    return a2a.AgentSkill(
        id=skill.id,
        name=skill.name,
        description=skill.description or skill.name,
        tags=skill.tags or [skill.id],
        examples=skill.examples,
    )


def _whole(agent: agent_pb2.Agent) -> a2a.AgentSkill:
    """Returns a skill that stands for the whole agent: a card must have at least one skill."""
    return a2a.AgentSkill(
        id=agent.name,
        name=agent.name,
        description=agent.description or f"The agent {agent.name}.",
        tags=[agent.name],
    )
