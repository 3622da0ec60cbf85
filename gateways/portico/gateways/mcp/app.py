"""The gateway: MCP's streamable HTTP at /mcp, both eras of it, with no state between requests."""

import asyncio
from importlib.metadata import version

from mcp.server.mcpserver import MCPServer
from mcp.server.transport_security import TransportSecuritySettings
from mcp_types import INVALID_REQUEST
from starlette.responses import JSONResponse, Response
from starlette.types import Receive, Scope, Send

from portico.client import PermissionDenied, PorticoError, Unauthenticated
from portico.gateways.http.core_connection import Core, caller_metadata
from portico.gateways.http.errors import CHALLENGE, BadRequest
from portico.gateways.http.request.query_parameters import check_query
from portico.gateways.mcp.settings import PATH, McpSettings
from portico.gateways.mcp.tools import Tools

_INSTRUCTIONS = (
    "Sandboxes to run code in: Python whose names live on, a shell, files. Without a sandbox_id every call "
    "goes to your own sandbox; sandbox_create makes more. There is no network unless hosts were allowed."
)


class McpGateway:
    """What a site serves."""

    name = "mcp"

    def __init__(self, settings: McpSettings) -> None:
        self.settings = settings
        self._core: Core | None = None
        server = MCPServer(
            "portico",
            title="Portico sandboxes",
            instructions=_INSTRUCTIONS,
            version=version("portico-runtime"),
            log_level="WARNING",
        )
        Tools(self._opened, settings).register(server)
        self._app = server.streamable_http_app(
            streamable_http_path=PATH,
            stateless_http=True,
            json_response=True,
            max_request_body_size=settings.max_body_bytes,
            # The site has checked Host and Origin, as for every gateway.
            transport_security=TransportSecuritySettings(enable_dns_rebinding_protection=False),
        )
        self._sessions = server.session_manager
        self._ready = asyncio.Event()
        self._stopping = asyncio.Event()
        self._running: asyncio.Task[None] | None = None

    def claims(self, path: str) -> bool:
        return path == PATH

    def open(self, core: Core) -> None:
        self._core = core
        self._running = asyncio.create_task(self._run(), name="mcp")

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "websocket":
            # MCP has no WebSocket.
            await Response(status_code=404)(scope, receive, send)
            return
        if self._stopping.is_set():
            await Response(status_code=503, headers={"retry-after": "1"})(scope, receive, send)
            return
        await self._ready.wait()
        refusal = _wrong_query(scope) or await self._refusal(scope)
        await (refusal or self._app)(scope, receive, send)

    async def _refusal(self, scope: Scope) -> Response | None:
        """What MCP's clients take as the sign to get a credential. The core says whether this one is good."""
        metadata = caller_metadata(scope["headers"])
        try:
            await self._opened().client.with_options(metadata=metadata).identity.caller()
        except Unauthenticated as error:
            return JSONResponse({"error": "invalid_token", "message": error.message}, 401, CHALLENGE)
        except PermissionDenied as error:
            return JSONResponse({"error": "insufficient_scope", "message": error.message}, 403)
        except PorticoError:
            return None  # the tool that is called says it
        return None

    def stop(self) -> None:
        self._stopping.set()

    def _opened(self) -> Core:
        assert self._core is not None
        return self._core

    async def _run(self) -> None:
        async with self._sessions.run():
            self._ready.set()
            await self._stopping.wait()


def _wrong_query(scope: Scope) -> Response | None:
    """MCP's transport gives the URL's query no meaning: what somebody put there would be ignored."""
    try:
        check_query(scope["query_string"], {})
    except BadRequest as error:
        told = {"code": INVALID_REQUEST, "message": error.message, "data": {"field": error.field}}
        return JSONResponse({"jsonrpc": "2.0", "id": None, "error": told}, error.status)
    return None
