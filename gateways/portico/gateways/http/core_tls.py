"""TLS to the core with certificate files that may change; new connections use the new files."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import grpc

from portico.client import Client
from portico.gateways.http.core_connection import core_credentials
from portico.gateways.http.settings import HttpSettings
from portico.process.certificate_metrics import Expiries
from portico.process.file_reload import ReloadedFiles


@asynccontextmanager
async def renewed_tls(client: Client, settings: HttpSettings, expiries: Expiries) -> AsyncIterator[None]:
    """Reloads the client's TLS files when they change, while the context is open. Does nothing without files.
    Raises ValueError for an unusable file.
    """
    watched = await asyncio.to_thread(ReloadedFiles, settings.core_ca, settings.core_cert, settings.core_key)
    if not watched.files:
        yield
        return

    def load() -> grpc.ChannelCredentials | None:
        credentials = core_credentials(settings)
        if settings.core_cert is not None:
            expiries.note("client", settings.core_cert)
        return credentials

    client.renew_tls(await asyncio.to_thread(load))
    following = asyncio.create_task(watched.follow(load, client.renew_tls), name="certificates of the core")
    try:
        yield
    finally:
        following.cancel()
        await asyncio.gather(following, return_exceptions=True)
