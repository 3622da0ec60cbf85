"""A gateway that other machines reach has a core that checks who calls, or was told to do without."""

import asyncio
import ipaddress
import time

import grpc

from portico.client import Client, HandshakeFailed, Unauthenticated, Unavailable

START_SECONDS = 30.0
AGAIN_SECONDS = 0.2


class Exposed(Exception):
    """Anybody could do anything; the message says what to do."""


class CoreUnreachable(Exception):
    """The core can't be asked whether it checks who calls; later it may."""


def is_local(host: str) -> bool:
    """Whether only this machine reaches what listens there."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host.strip("[]").partition("%")[0]).is_loopback
    except ValueError:
        return False  # a name may mean any address


async def wants_credential(client: Client) -> bool:
    """Whether the core checks who calls. Raises PorticoError."""
    try:
        return (await client.agents.get()).needs_credential
    except Unauthenticated:
        return True


async def check_guarded(core: str, host: str, tls: grpc.ChannelCredentials | None = None) -> None:
    """Return when the core is there and wants credentials. Raises Exposed, CoreUnreachable."""
    async with Client(core, timeout=5.0, tls=tls) as client:
        until = time.monotonic() + START_SECONDS
        while True:
            try:
                guarded = await wants_credential(client)
                break
            except Unavailable as error:
                if isinstance(error, HandshakeFailed) or time.monotonic() > until:
                    raise CoreUnreachable(
                        f"the core at {core} can't be asked whether auth is on: {error}"
                    ) from None
                await asyncio.sleep(AGAIN_SECONDS)
    if not guarded:
        raise Exposed(
            f"other machines can reach {host}, and the core checks no credentials: turn its auth on "
            "(portico core --auth), or say --insecure-no-auth"
        )
