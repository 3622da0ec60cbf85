"""TLS for an HTTPS server; when certificate or key change, new connections use the new files."""

import ssl
from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn

from portico.process import certificates
from portico.process.certificate_metrics import Expiries
from portico.process.file_reload import ReloadedFiles


class Https:
    """Makes the server's TLS context, and a new one each time the certificate or key changes."""

    def __init__(self, cert: Path, key: Path, expiries: Expiries) -> None:
        self._cert, self._key = cert, key
        self._expiries = expiries
        self._make: Callable[[], ssl.SSLContext] | None = None
        self._current: ssl.SSLContext | None = None

    def context(self, _: Any, make: Callable[[], ssl.SSLContext]) -> ssl.SSLContext:
        """uvicorn's ssl_context_factory: returns a context that switches each handshake to the newest
        context.
        """
        self._make = make
        self._files = ReloadedFiles(self._cert, self._key)
        context = self._current = self._load()
        context.sni_callback = self._choose
        return context

    async def follow(self) -> NoReturn:
        """Watches the files and reloads them when they change."""
        await self._files.follow(self._load, self._use)

    def _choose(self, connection: ssl.SSLObject, _: str | None, context: ssl.SSLContext) -> None:
        """Called by OpenSSL in each handshake, also when the client names no host."""
        if self._current is not None and self._current is not context:
            connection.context = self._current

    def _use(self, loaded: ssl.SSLContext) -> None:
        self._current = loaded

    def _load(self) -> ssl.SSLContext:
        """Returns a context from the current files. Raises ValueError for an unusable file."""
        assert self._make is not None
        certificates.check(self._cert, self._key)
        try:
            context = self._make()
        except OSError as error:
            raise ValueError(f"{self._cert}: can't be used: {error}") from None
        self._expiries.note("server", self._cert)
        return context
