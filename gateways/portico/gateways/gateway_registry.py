"""The table of gateways. It imports a gateway's modules only when they are needed, so that the command line
can read the table too.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib import import_module
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from portico.gateways.http.settings import HttpSettings
    from portico.gateways.http.site import Gateway


class GatewayMissing(Exception):
    """The environment lacks a package that the gateway needs; the message says how to install it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class GatewayKind:
    """One gateway: a row of the table. Paths have the form module:name."""

    title: str  # the gateway in a sentence, as in "the A2A gateway"
    description: str
    settings_path: str  # the class of its settings
    factory_path: str  # creates it from its settings; raises GatewayMissing
    embeddable: bool = True  # whether it can be served within another program

    def settings(self) -> type["HttpSettings"]:
        """Returns the class of the gateway's settings."""
        settings: type[HttpSettings] = _load(self.settings_path)
        return settings

    def factory(self) -> Callable[[Any], "Gateway"]:
        """Returns what creates the gateway from its settings."""
        factory: Callable[[Any], Gateway] = _load(self.factory_path)
        return factory


# The last gateway gets every path that no other claims.
GATEWAYS: Final[Mapping[str, GatewayKind]] = {
    "a2a": GatewayKind(
        title="A2A",
        description="Agent2Agent, 1.0 and 0.3, on JSON-RPC, HTTP+JSON and gRPC",
        settings_path="portico.gateways.a2a.settings:A2aSettings",
        factory_path="portico.gateways.a2a.app:A2aGateway",
    ),
    "mcp": GatewayKind(
        title="MCP",
        description="Sandboxes as an MCP server, on streamable HTTP",
        settings_path="portico.gateways.mcp.settings:McpSettings",
        factory_path="portico.gateways.mcp.lazy_gateway:LazyMcpGateway",
        embeddable=False,  # its SDK would configure the program's logging
    ),
    "openai": GatewayKind(
        title="OpenAI",
        description="Responses, Conversations and Chat Completions of OpenAI",
        settings_path="portico.gateways.openai.settings:OpenAiSettings",
        factory_path="portico.gateways.openai.app:OpenAiGateway",
    ),
    "sse": GatewayKind(
        title="SSE and REST",
        description="Server-Sent Events and REST",
        settings_path="portico.gateways.sse.settings:SseSettings",
        factory_path="portico.gateways.sse.app:SseGateway",
    ),
}


def _load(path: str) -> Any:
    module, _, name = path.partition(":")
    return getattr(import_module(module), name)
