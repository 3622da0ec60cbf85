"""Ports of sandboxes as HTTP: /ports/{token}/… goes to the server inside that the token is for.

What answers is hostile. It gets neither the caller's credential nor its cookies, may set none, and a page
of it runs in an origin of its own.
"""

from collections.abc import AsyncGenerator, Iterable
from typing import Any

import httpcore
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.types import Receive, Scope, Send

from portico.client import PorticoError
from portico.client.sandbox_streams import PortConnection
from portico.gateways.http.core import Core
from portico.gateways.sse.errors import error_response, from_core, from_status

PREFIX = "/ports/"
_HOP = frozenset(
    (b"connection", b"keep-alive", b"proxy-connection", b"te", b"trailer", b"transfer-encoding", b"upgrade")
)
_NOT_IN = _HOP | {b"host", b"authorization", b"cookie", b"proxy-authorization", b"expect"}
_NOT_OUT = _HOP | {b"set-cookie", b"content-security-policy", b"service-worker-allowed", b"clear-site-data"}
_NOT_OUT |= {b"strict-transport-security", b"public-key-pins", b"alt-svc"}
_OWN_ORIGIN = b"sandbox allow-scripts allow-forms allow-modals allow-popups allow-downloads"


class Ports:
    """An ASGI application below PREFIX."""

    def __init__(self, core: Core) -> None:
        self._core = core

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        request = Request(scope, receive)
        raw: bytes = scope.get("raw_path") or scope["path"].encode()
        token, slash, path = raw.decode("latin-1").removeprefix(PREFIX).partition("/")
        if not slash:
            location = {"location": f"{PREFIX}{token}/"}
            await Response(status_code=307, headers=location)(scope, receive, send)
            return
        try:
            connection = await self._core.client.sandboxes.connect_port(access_token=token)
        except PorticoError as error:
            await from_core(error)(scope, receive, send)
            return
        try:
            response = await self._answer(request, connection, token, path)
            await response(scope, receive, send)
        finally:
            await connection.close()

    async def _answer(self, request: Request, connection: PortConnection, token: str, path: str) -> Response:
        query: bytes = request.scope["query_string"]
        target = b"/" + path.encode("latin-1") + (b"?" + query if query else b"")
        origin = httpcore.Origin(b"http", b"localhost", 80)
        http = httpcore.AsyncHTTP11Connection(origin, _Stream(connection))
        headers = [(name, value) for name, value in request.scope["headers"] if name not in _NOT_IN]
        headers += [(b"host", b"localhost"), (b"x-forwarded-prefix", f"{PREFIX}{token}".encode())]
        asked = httpcore.Request(
            request.method,
            httpcore.URL(scheme=b"http", host=b"localhost", target=target),
            headers=headers,
            content=_body(request) if _has_body(request) else b"",
        )
        try:
            answered = await http.handle_async_request(asked)
        except httpcore.TimeoutException:
            return from_status(504)
        except (httpcore.NetworkError, httpcore.ProtocolError, PorticoError):
            return error_response(502, "PORT_REFUSED", "what listens on the port does not speak HTTP")
        response = StreamingResponse(_pieces(answered), answered.status)
        response.raw_headers = list(_headers(answered.headers, f"{PREFIX}{token}".encode()))
        return response


def _has_body(request: Request) -> bool:
    headers = request.headers
    return "transfer-encoding" in headers or headers.get("content-length", "0") != "0"


async def _body(request: Request) -> AsyncGenerator[bytes, None]:
    async for piece in request.stream():
        yield piece


async def _pieces(answered: httpcore.Response) -> AsyncGenerator[bytes, None]:
    try:
        async for piece in answered.aiter_stream():
            yield piece
    except (httpcore.NetworkError, httpcore.ProtocolError, PorticoError) as error:
        raise ConnectionError("the sandbox's server broke off") from error
    finally:
        await answered.aclose()


def _headers(given: Iterable[tuple[bytes, bytes]], prefix: bytes) -> Iterable[tuple[bytes, bytes]]:
    for name, value in given:
        name = name.lower()
        if name == b"location" and value.startswith(b"/") and not value.startswith(b"//"):
            value = prefix + value
        if name not in _NOT_OUT:
            yield name, value
    yield b"content-security-policy", _OWN_ORIGIN
    yield b"referrer-policy", b"no-referrer"


class _Stream(httpcore.AsyncNetworkStream):
    """A connection to a port, as httpcore wants it."""

    def __init__(self, connection: PortConnection) -> None:
        self._connection = connection
        self._rest = b""

    async def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        if not self._rest:
            self._rest = await self._connection.read()
        data, self._rest = self._rest[:max_bytes], self._rest[max_bytes:]
        return data

    async def write(self, buffer: bytes, timeout: float | None = None) -> None:
        if buffer:
            await self._connection.write(buffer)

    async def aclose(self) -> None:
        await self._connection.close()

    async def start_tls(self, *args: Any, **kwargs: Any) -> httpcore.AsyncNetworkStream:
        raise NotImplementedError("ports are reached in the clear, inside")

    def get_extra_info(self, info: str) -> Any:
        return False if info == "is_readable" else None
