"""Refuses to serve other machines while the core checks no credentials, unless the operator allows it."""

import asyncio
import ipaddress
import time

import grpc

from portico.client import Client, HandshakeFailed, Unauthenticated, Unavailable

START_SECONDS = 30.0
AGAIN_SECONDS = 0.2


class UnprotectedGatewayError(Exception):
    """Other machines could use the core without credentials; the message says how to fix it."""


class CoreUnreachable(Exception):
    """The core did not answer whether it checks credentials; a later attempt may succeed."""


def is_loopback_host(host: str) -> bool:
    """Returns whether only this machine can reach a socket bound to `host`."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host.strip("[]").partition("%")[0]).is_loopback
    except ValueError:
        return False  # a name may resolve to any address


async def wants_credential(client: Client) -> bool:
    """Returns whether the core checks credentials. Raises PorticoError."""
    try:
        return (await client.agents.get()).needs_credential
    except Unauthenticated:
        return True


async def check_core_auth(core: str, host: str, tls: grpc.ChannelCredentials | None = None) -> None:
    """Waits until the core answers, and checks that it requires credentials.

    Args:
        core: The core's address.
        host: The host that other machines can reach; the error names it.
        tls: Credentials for TLS to the core; None for plain text.

    Raises:
        UnprotectedGatewayError: The core checks no credentials.
        CoreUnreachable: The core did not answer for START_SECONDS, or the TLS handshake failed.
    """
    async with Client(core, timeout=5.0, tls=tls) as client:
        until = time.monotonic() + START_SECONDS
        while True:
            try:
                guarded = await wants_credential(client)
                break
            except Unavailable as error:
                if isinstance(error, HandshakeFailed) or time.monotonic() > until:
                    raise CoreUnreachable(
                        f"can't find out whether the core at {core} has auth on: {error}"
                    ) from None
                await asyncio.sleep(AGAIN_SECONDS)
    if not guarded:
        raise UnprotectedGatewayError(
            f"other machines can reach {host}, and the core checks no credentials: turn its auth on "
            "(portico core --auth), or start the gateway with --insecure-no-auth"
        )
