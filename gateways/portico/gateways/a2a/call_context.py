"""The caller of a call: its metadata, the agent it addresses, and its protocol version."""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from urllib.parse import unquote

import grpc.aio
from a2a.extensions.common import HTTP_EXTENSION_HEADER, get_requested_extensions
from a2a.server.context import ServerCallContext
from a2a.server.request_handlers.grpc_handler import GrpcServerCallContextBuilder
from a2a.server.routes.common import ServerCallContextBuilder
from a2a.utils.constants import PROTOCOL_VERSION_0_3, PROTOCOL_VERSION_1_0, VERSION_HEADER
from a2a.utils.errors import VersionNotSupportedError
from starlette.requests import Request
from starlette.types import Scope

from portico.gateways.http.core_connection import CLIENT_ADDRESS, caller_metadata, forwarded_metadata

CALLER = "portico.caller"  # key in a call context's state
AGENT = "portico.agent"  # key in an ASGI scope: the agent named by the path
VERSION = "portico.version"  # key in an ASGI scope: the protocol version
CONTEXT = "portico.context"  # key in an ASGI scope: the SDK's context of the call
SITE = "portico.site"  # key in an ASGI scope: the site's URL as the caller addressed it
_VERSION = re.compile(r"(\d+\.\d+)(\.\d+)*")


@dataclass(frozen=True, slots=True)
class Caller:
    """Data of a call's caller."""

    agent_name: str = ""  # named by the path
    site: str = ""
    metadata: Mapping[str, str] = field(default_factory=dict)  # forwarded to the core
    idempotency_key: str = ""
    extensions: frozenset[str] = frozenset()
    version: str = PROTOCOL_VERSION_1_0


def version_of(value: str) -> str:
    """Returns A2A-Version as major and minor; an empty value means 0.3. Raises VersionNotSupportedError."""
    if not value.strip():
        return PROTOCOL_VERSION_0_3
    found = _VERSION.fullmatch(value.strip())
    version = found.group(1) if found else ""
    if version not in (PROTOCOL_VERSION_1_0, PROTOCOL_VERSION_0_3):
        raise VersionNotSupportedError(
            message=f"A2A version {value[:20]!r} is not supported; expected 1.0 or 0.3",
            data={"supportedVersions": f"{PROTOCOL_VERSION_1_0}, {PROTOCOL_VERSION_0_3}"},
        )
    return version


def http_version(scope: Scope) -> str:
    """Returns the version in a request's header. Raises VersionNotSupportedError."""
    name = VERSION_HEADER.lower().encode()
    return version_of(next((value.decode("latin-1") for key, value in scope["headers"] if key == name), ""))


def http_caller(scope: Scope) -> Caller:
    """Returns the caller of a request whose path has been parsed."""
    key, extensions = "", []
    for name, value in scope["headers"]:
        if name == b"idempotency-key":
            key = value.decode("latin-1")
        elif name in (b"a2a-extensions", b"x-a2a-extensions"):
            extensions.append(value.decode("latin-1"))
    return Caller(
        scope.get(AGENT, ""),
        scope.get(SITE, ""),
        caller_metadata(scope["headers"]),
        key,
        frozenset(get_requested_extensions(extensions)),
        scope.get(VERSION, PROTOCOL_VERSION_1_0),
    )


def call_context(caller: Caller, headers: Mapping[str, str], tenant: str = "") -> ServerCallContext:
    """Returns the context that the SDK passes to the request handler."""
    return ServerCallContext(
        state={CALLER: caller, "headers": dict(headers)},
        tenant=tenant,
        requested_extensions=set(caller.extensions),
    )


class HttpContexts(ServerCallContextBuilder):
    """Builds the contexts of HTTP requests."""

    def build(self, request: Request) -> ServerCallContext:
        context = request.scope[CONTEXT] = call_context(http_caller(request.scope), request.headers)
        return context


class GrpcContexts(GrpcServerCallContextBuilder):
    """Builds the contexts of gRPC calls to a service of one protocol version."""

    def __init__(self, version: str) -> None:
        self._version = version

    def build(self, context: "grpc.aio.ServicerContext") -> ServerCallContext:
        """Raises VersionNotSupportedError when the call names another version."""
        sent = [(name.lower(), value) for name, value in _texts(context.invocation_metadata() or ())]
        given = [(name, value) for name, value in sent if name != CLIENT_ADDRESS]
        given.append((CLIENT_ADDRESS, _host(context.peer())))
        metadata = forwarded_metadata(given)
        named = dict(given)
        version = version_of(named.get(VERSION_HEADER.lower(), ""))
        if version != self._version:
            raise VersionNotSupportedError(
                message=f"The call uses A2A {version}; set a2a-version to {self._version} for this service",
                data={"supportedVersions": self._version},
            )
        extensions = [value for name, value in given if name == HTTP_EXTENSION_HEADER.lower()]
        caller = Caller(
            metadata=metadata,
            idempotency_key=named.get("idempotency-key", ""),
            extensions=frozenset(get_requested_extensions(extensions)),
            version=version,
        )
        return call_context(caller, {})


def _host(peer: str) -> str:
    """Returns the host in a gRPC peer such as ipv6:%5B::1%5D:50051; empty for a Unix socket."""
    return unquote(peer).partition(":")[2].rpartition(":")[0].strip("[]")


def _texts(metadata: Iterable[tuple[str, str | bytes]]) -> Iterable[tuple[str, str]]:
    return ((name, value) for name, value in metadata if isinstance(value, str))


def caller_of(context: ServerCallContext) -> Caller:
    """Returns the caller of a call."""
    caller: Caller = context.state[CALLER]
    return caller
