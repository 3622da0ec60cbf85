"""The MCP gateway's application: streamable HTTP at /mcp for both generations of the protocol, without state
between requests.
"""

import asyncio
from importlib.metadata import version

from mcp.server.mcpserver import MCPServer
from mcp.server.transport_security import TransportSecuritySettings
from mcp_types import INVALID_REQUEST
from starlette.responses import JSONResponse, Response
from starlette.types import Receive, Scope, Send

from portico.client import PermissionDenied, PorticoError, Unauthenticated
from portico.gateways.http.core_connection import CoreConnection, caller_metadata
from portico.gateways.http.errors import CHALLENGE, BadRequest
from portico.gateways.http.request.query_parameters import check_query
from portico.gateways.mcp.settings import PATH, McpSettings
from portico.gateways.mcp.tools import Tools

_INSTRUCTIONS = (
    "Sandboxes for running code: Python that keeps its variables, a shell, files. Calls without a sandbox_id "
    "use your own sandbox; sandbox_create creates more. There is no network unless hosts were allowed."
)


class McpGateway:
    """The gateway that serves sandboxes over MCP."""

    name = "mcp"

    def __init__(self, settings: McpSettings) -> None:
        self.settings = settings
        self._core: CoreConnection | None = None
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
            # The site has checked Host and Origin already, as for every gateway.
            transport_security=TransportSecuritySettings(enable_dns_rebinding_protection=False),
        )
        self._sessions = server.session_manager
        self._ready = asyncio.Event()
        self._stopping = asyncio.Event()
        self._running: asyncio.Task[None] | None = None

    def claims(self, path: str) -> bool:
        return path == PATH

    def open(self, core: CoreConnection) -> None:
        self._core = core
        self._running = asyncio.create_task(self._run(), name="mcp")

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "websocket":
            # MCP does not use WebSockets.
            await Response(status_code=404)(scope, receive, send)
            return
        if self._stopping.is_set():
            await Response(status_code=503, headers={"retry-after": "1"})(scope, receive, send)
            return
        await self._ready.wait()
        refusal = _wrong_query(scope) or await self._refusal(scope)
        await (refusal or self._app)(scope, receive, send)

    async def _refusal(self, scope: Scope) -> Response | None:
        """Returns 401 or 403 if the core refuses the credential: MCP's clients then obtain one."""
        metadata = caller_metadata(scope["headers"])
        try:
            await self._opened().client.with_options(metadata=metadata).identity.caller()
        except Unauthenticated as error:
            return JSONResponse({"error": "invalid_token", "message": error.message}, 401, CHALLENGE)
        except PermissionDenied as error:
            return JSONResponse({"error": "insufficient_scope", "message": error.message}, 403)
        except PorticoError:
            return None  # the tool call reports it
        return None

    def stop(self) -> None:
        self._stopping.set()

    def _opened(self) -> CoreConnection:
        assert self._core is not None
        return self._core

    async def _run(self) -> None:
        async with self._sessions.run():
            self._ready.set()
            await self._stopping.wait()


def _wrong_query(scope: Scope) -> Response | None:
    """Returns a refusal for a URL with a query: MCP's transport gives it no meaning and would ignore it."""
    try:
        check_query(scope["query_string"], {})
    except BadRequest as error:
        told = {"code": INVALID_REQUEST, "message": error.message, "data": {"field": error.field}}
        return JSONResponse({"jsonrpc": "2.0", "id": None, "error": told}, error.status)
    return None
