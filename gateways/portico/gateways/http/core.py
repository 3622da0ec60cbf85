"""What a gateway has of the core: a client, a multiplexed connection, and the caller's own metadata."""

from collections.abc import Iterable
from dataclasses import dataclass

import grpc
from starlette.requests import Request

from portico.client import Client, Multiplexer
from portico.client.tls import channel_credentials
from portico.gateways.http.settings import HttpSettings
from portico.telemetry import ids

CLIENT_ADDRESS = "x-portico-client-address"  # what a gateway tells the core of its caller, by its own word
# What belongs to the caller and travels with the call, by the names that gRPC metadata has too, and how
# many characters of it are carried.
_CHARACTERS = {
    "authorization": 64 * 1024,  # the core says what is too long for a credential
    "traceparent": 256,
    "tracestate": 512,  # as many as W3C's Trace Context wants carried
    "x-request-id": ids.MAX_CHARACTERS,
    CLIENT_ADDRESS: 64,
}
_PASSED_ON = frozenset(name.encode() for name in _CHARACTERS)
_UNREADABLE = "unreadable"  # in place of a credential that can't be carried: the core refuses it


@dataclass(frozen=True, slots=True)
class Core:
    """The connections of one gateway process."""

    client: Client
    streams: Multiplexer

    def of(self, request: Request) -> Client:
        """A client that speaks for the caller of this request."""
        metadata = caller_metadata(request.scope["headers"])
        return self.client.with_options(metadata=metadata) if metadata else self.client


def core_credentials(settings: HttpSettings) -> grpc.ChannelCredentials | None:
    """TLS to the core, if it is to be. Raises ValueError for a file that can't be used now."""
    if not settings.core_tls:
        return None
    return channel_credentials(settings.core_ca, cert=settings.core_cert, key=settings.core_key)


def caller_metadata(headers: Iterable[tuple[bytes, bytes]]) -> dict[str, str]:
    """The caller's credential, trace context and request id."""
    found = [(name.decode(), value.decode("latin-1")) for name, value in headers if name in _PASSED_ON]
    return passed_on(found) if found else {}


def passed_on(given: Iterable[tuple[str, str]]) -> dict[str, str]:
    """What of a request's headers, or a call's metadata, goes on to the core.

    Leaves out a trace header or a request id that can't be carried. A credential is never left out, since
    that would make the call another caller's; two of them are joined, which no credential is.
    """
    passed: dict[str, str] = {}
    for name, value in given:
        if name in _CHARACTERS:
            passed[name] = f"{passed[name]},{value}" if name in passed else value
    for name, value in tuple(passed.items()):
        # gRPC takes printable ASCII only.
        if len(value) > _CHARACTERS[name] or not value.isascii() or not value.isprintable():
            del passed[name]
            if name == "authorization":
                passed[name] = _UNREADABLE
    return passed


def idempotency_key(headers: Iterable[tuple[bytes, bytes]]) -> str:
    """The key under which a caller may ask the same twice; none is empty."""
    return next((value.decode("latin-1") for name, value in headers if name == b"idempotency-key"), "")


def core_of(request: Request) -> Core:
    """The application's core; a FastAPI dependency."""
    core: Core = request.app.state.core
    return core
