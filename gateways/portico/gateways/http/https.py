"""The TLS of an HTTPS server, read again when its files change: for connections that begin then."""

import ssl
from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn

from portico.process import certificates
from portico.process.certificate_metrics import Expiries
from portico.process.reloading import Watched


class Https:
    """What uvicorn makes of a certificate and its key, and what it makes of them when they change."""

    def __init__(self, cert: Path, key: Path, expiries: Expiries) -> None:
        self._cert, self._key = cert, key
        self._expiries = expiries
        self._make: Callable[[], ssl.SSLContext] | None = None
        self._current: ssl.SSLContext | None = None

    def context(self, _: Any, make: Callable[[], ssl.SSLContext]) -> ssl.SSLContext:
        """uvicorn's ssl_context_factory: a context that leaves each handshake to the newest one."""
        self._make = make
        self._files = Watched(self._cert, self._key)
        context = self._current = self._load()
        context.sni_callback = self._choose
        return context

    async def follow(self) -> NoReturn:
        """Follow the files."""
        await self._files.follow(self._load, self._use)

    def _choose(self, connection: ssl.SSLObject, _: str | None, context: ssl.SSLContext) -> None:
        """OpenSSL asks at each handshake, also of a client that names no host."""
        if self._current is not None and self._current is not context:
            connection.context = self._current

    def _use(self, loaded: ssl.SSLContext) -> None:
        self._current = loaded

    def _load(self) -> ssl.SSLContext:
        """Raises ValueError."""
        assert self._make is not None
        certificates.check(self._cert, self._key)
        try:
            context = self._make()
        except OSError as error:
            raise ValueError(f"{self._cert}: can't be used: {error}") from None
        self._expiries.note("server", self._cert)
        return context
