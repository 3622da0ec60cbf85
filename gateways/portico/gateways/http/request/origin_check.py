"""Checks the Host and Origin of every request, before a gateway sees it, to keep out pages of other sites.

A gateway without auth trusts every caller that can reach it, and so can every page in a browser on this
machine: by a form, a WebSocket, fetch, or a host name that the page has pointed at this machine (DNS
rebinding). Programs other than browsers send neither Origin nor Sec-Fetch-Site and are not affected.
"""

import asyncio
import re
import time
from collections.abc import Mapping, Sequence
from typing import Final

import orjson
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from portico.client import Client, PorticoError
from portico.gateways.core_auth_check import wants_credential
from portico.gateways.http.errors import RETRY_SECONDS
from portico.gateways.http.request.host_origin import Hosts, same_origin
from portico.gateways.http.settings import HttpSettings

KNOWN_SECONDS: Final = 5.0
ASK_SECONDS: Final = 5.0
AGAIN_SECONDS: Final = 0.5  # after a failed attempt
_SAFE: Final = frozenset(("GET", "HEAD", "OPTIONS"))
_READ: Final = frozenset(
    (b"host", b"origin", b"referer", b"sec-fetch-site", b"sec-fetch-mode", b"sec-fetch-dest")
)
_LINK: Final = (b"navigate", b"document")  # Sec-Fetch-Mode and -Dest of a whole window, not a frame
_PAGE: Final = re.compile(rb"[a-z][a-z0-9+.-]*://[^/?#]+")  # the origin part of a Referer
# values of Sec-Fetch-Site; `none`: typed or bookmarked by the user
_OWN_SITE: Final = frozenset((b"", b"same-origin", b"none"))
_SHOWN: Final = 100
RETRY: Final = {"retry-after": RETRY_SECONDS[503]}


class CoreAuthState:
    """Caches for a few seconds whether the core checks credentials."""

    def __init__(self) -> None:
        self._client: Client | None = None
        self._on: bool | None = None
        self._until = 0.0
        self._asking = asyncio.Lock()

    def open(self, client: Client) -> None:
        """Sets the client to the core. Called once, before any request."""
        self._client = client.with_options(timeout=ASK_SECONDS)

    async def on(self) -> bool | None:
        """Returns whether the core checks credentials; None until it has answered once. The last answer stays
        valid while the core is unreachable.
        """
        if time.monotonic() < self._until or self._client is None:
            return self._on
        async with self._asking:
            if time.monotonic() >= self._until:
                try:
                    self._on = await wants_credential(self._client)
                    self._until = time.monotonic() + KNOWN_SECONDS
                except PorticoError:
                    self._until = time.monotonic() + AGAIN_SECONDS
        return self._on


class OriginCheck:
    """Decides which requests may reach one gateway."""

    def __init__(self, settings: HttpSettings, listening: Sequence[str], auth: CoreAuthState) -> None:
        """`listening` contains the hosts on which the site serves HTTP."""
        self._hosts = Hosts(listening, settings.allowed_hosts)
        self._origins = frozenset(origin.encode() for origin in settings.cors_origins)
        self._auth = auth

    async def refusal(self, scope: Scope, *, any_origin: bool = False) -> "Refusal | None":
        """Returns the answer to a request that must not reach the gateway, or None.

        Args:
            scope: The request's ASGI scope.
            any_origin: Skip the check of the origin, for paths that are themselves the credential: no page
                can act there with another caller's authority.
        """
        fields: dict[bytes, bytes] = {}
        for name, value in scope["headers"]:
            if name in _READ:
                if name in fields:
                    return Refusal(400, "INVALID_ARGUMENT", f"the request has more than one {name.decode()}")
                fields[name] = value
        host = fields.get(b"host", b"").decode("latin-1")
        if not self._hosts.answer(host) and not (on := await self._auth.on()):
            return _unknown_host() if on is None else _wrong_host(host)
        if any_origin:
            return None
        origin = fields.get(b"origin")
        if origin is not None:
            return None if self._may_call(origin, host) else _wrong_origin(origin.decode("latin-1"))
        if fields.get(b"sec-fetch-site", b"") in _OWN_SITE or self._may_show(scope, fields, host):
            return None
        return _wrong_origin("")

    def _may_show(self, scope: Scope, fields: Mapping[bytes, bytes], host: str) -> bool:
        """Any page may link to this gateway. Only pages that may call it may embed its images and frames."""
        if scope["type"] != "http" or scope["method"] not in _SAFE:
            return False
        if (fields.get(b"sec-fetch-mode"), fields.get(b"sec-fetch-dest")) == _LINK:
            return True
        page = _PAGE.match(fields.get(b"referer", b""))
        return self._may_call(b"" if page is None else page[0], host)

    def _may_call(self, origin: bytes, host: str) -> bool:
        if b"*" in self._origins or origin in self._origins:
            return True
        return same_origin(origin.decode("latin-1"), host)


class Refusal:
    """An ASGI application that refuses a request or a WebSocket handshake."""

    def __init__(
        self, status: int, code: str, message: str, headers: Mapping[str, str] | None = None
    ) -> None:
        body = orjson.dumps({"error": {"code": code, "message": message, "details": {}}})
        self._response = Response(body, status, headers, "application/json")

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "websocket":
            await receive()
        await self._response(scope, receive, send)


def _unknown_host() -> Refusal:
    words = "unknown hosts are refused until the core answers whether it checks credentials; try again"
    return Refusal(503, "UNAVAILABLE", words, RETRY)


def _wrong_host(host: str) -> Refusal:
    return Refusal(
        421,
        "HOST_NOT_ALLOWED",
        f"unknown host {host[:_SHOWN]!a}, and the core checks no credentials: "
        "add it to PORTICO_HTTP_ALLOWED_HOSTS (--allowed-hosts), or turn auth on",
    )


def _wrong_origin(origin: str) -> Refusal:
    page = f"pages of {origin[:_SHOWN]!a}" if origin else "pages of other sites"
    return Refusal(
        403,
        "ORIGIN_NOT_ALLOWED",
        f"{page} may not call this gateway: add the origin to PORTICO_HTTP_CORS_ORIGINS (--cors-origins)",
    )
