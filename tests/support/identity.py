"""A core that checks credentials, and callers."""

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from support.serving import running_core

from portico.agent import AgentApp
from portico.client import Client
from portico.core.server.core_server import CoreServer

ADMIN_KEY = "an-admin-key-of-32-letters-or-more"


class Callers:
    """A core's address, and clients for any principal."""

    def __init__(self, server: CoreServer, admin: Client) -> None:
        self.server = server
        self.target = server.addresses[0]
        self.admin = admin

    async def key(self, user_id: str, tenant: str = "", *scopes: str) -> str:
        """Returns a new key's credential."""
        _, credential = await self.admin.identity.create_key(user_id=user_id, tenant=tenant, scopes=scopes)
        return credential

    async def client(self, user_id: str, tenant: str = "", *scopes: str) -> Client:
        """Returns a client for a user, on the admin's connection."""
        return self.admin.with_options(credential=await self.key(user_id, tenant, *scopes))

    def nobody(self) -> Client:
        """Returns a client without a credential, on its own connection, which the test must close."""
        return Client(self.target)


@asynccontextmanager
async def guarded_core(
    agents: Sequence[AgentApp], directory: Path, **settings: Any
) -> AsyncIterator[Callers]:
    """Starts a core with auth on."""
    given = {"auth": True, "admin_key": ADMIN_KEY, **settings}
    async with (
        running_core(agents, directory, **given) as server,
        Client(server.addresses[0], credential=ADMIN_KEY) as admin,
    ):
        yield Callers(server, admin)
