"""A gateway's connection to the core: a client, a multiplexed connection, and the caller's metadata."""

from collections.abc import Iterable
from dataclasses import dataclass

import grpc
from starlette.requests import Request

from portico.client import Client, Multiplexer
from portico.client.tls import channel_credentials
from portico.gateways.http.settings import HttpSettings
from portico.telemetry.log import log_ids

CLIENT_ADDRESS = "x-portico-client-address"  # the caller's address as the gateway sees it, for the core
# Headers that are forwarded to the core with each call, under the same names as gRPC metadata, and the most
# characters of each.
_CHARACTERS = {
    "authorization": 64 * 1024,  # the core refuses credentials that are too long for it
    "traceparent": 256,
    "tracestate": 512,  # W3C Trace Context recommends propagating at least this many
    "x-request-id": log_ids.MAX_CHARACTERS,
    CLIENT_ADDRESS: 64,
}
_PASSED_ON = frozenset(name.encode() for name in _CHARACTERS)
_UNREADABLE = "unreadable"  # replaces a credential that gRPC can't carry, so that the core refuses it


@dataclass(frozen=True, slots=True)
class CoreConnection:
    """The connections of one gateway process to the core."""

    client: Client
    streams: Multiplexer

    def client_for(self, request: Request) -> Client:
        """Returns a client that makes calls with the credential and metadata of this request's caller."""
        metadata = caller_metadata(request.scope["headers"])
        return self.client.with_options(metadata=metadata) if metadata else self.client


def core_credentials(settings: HttpSettings) -> grpc.ChannelCredentials | None:
    """Returns the TLS credentials for the core; None without TLS. Raises ValueError for an unusable file."""
    if not settings.core_tls:
        return None
    return channel_credentials(settings.core_ca, cert=settings.core_cert, key=settings.core_key)


def caller_metadata(headers: Iterable[tuple[bytes, bytes]]) -> dict[str, str]:
    """Returns the caller's credential, trace context and request id, as metadata for calls to the core."""
    found = [(name.decode(), value.decode("latin-1")) for name, value in headers if name in _PASSED_ON]
    return forwarded_metadata(found) if found else {}


def forwarded_metadata(given: Iterable[tuple[str, str]]) -> dict[str, str]:
    """Selects the headers, or the metadata of a call, that are forwarded to the core.

    A trace header or a request id that gRPC can't carry is left out. A credential is never left out, since
    the call would then run as another principal; two credentials are joined by a comma, which makes them
    invalid.
    """
    passed: dict[str, str] = {}
    for name, value in given:
        if name in _CHARACTERS:
            passed[name] = f"{passed[name]},{value}" if name in passed else value
    for name, value in tuple(passed.items()):
        # gRPC metadata allows printable ASCII only.
        if len(value) > _CHARACTERS[name] or not value.isascii() or not value.isprintable():
            del passed[name]
            if name == "authorization":
                passed[name] = _UNREADABLE
    return passed


def idempotency_key(headers: Iterable[tuple[bytes, bytes]]) -> str:
    """Returns the request's idempotency key; empty for none."""
    return next((value.decode("latin-1") for name, value in headers if name == b"idempotency-key"), "")


def core_connection_of(request: Request) -> CoreConnection:
    """Returns the application's core; a FastAPI dependency."""
    core: CoreConnection = request.app.state.core
    return core
