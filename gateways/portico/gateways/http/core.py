"""What a gateway has of the core: a client, a multiplexed connection, and the caller's own metadata."""

from collections.abc import Iterable
from dataclasses import dataclass

import grpc
from starlette.requests import Request

from portico.client import Client, Multiplexer
from portico.client.tls import channel_credentials
from portico.gateways.http.settings import HttpSettings

# What belongs to the caller and travels with the call, by the names that gRPC metadata has too.
PASSED_ON = frozenset((b"authorization", b"traceparent", b"tracestate", b"x-request-id"))


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
    """TLS to the core, if it is to be. Raises OSError for a file that can't be read."""
    if not settings.core_tls:
        return None
    return channel_credentials(settings.core_ca, cert=settings.core_cert, key=settings.core_key)


def caller_metadata(headers: Iterable[tuple[bytes, bytes]]) -> dict[str, str]:
    """The caller's credential and trace context."""
    passed = {name.decode(): value.decode("latin-1") for name, value in headers if name in PASSED_ON}
    # gRPC takes printable ASCII only.
    return {name: value for name, value in passed.items() if value.isascii() and value.isprintable()}


def idempotency_key(headers: Iterable[tuple[bytes, bytes]]) -> str:
    """The key under which a caller may ask the same twice; none is empty."""
    return next((value.decode("latin-1") for name, value in headers if name == b"idempotency-key"), "")


def core_of(request: Request) -> Core:
    """The application's core; a FastAPI dependency."""
    core: Core = request.app.state.core
    return core
