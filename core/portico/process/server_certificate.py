"""TLS certificate of a gRPC server; new connections use changed files without a restart."""

from pathlib import Path
from typing import NoReturn

import grpc

from portico.process import certificates
from portico.process.certificate_metrics import Expiries
from portico.process.file_reload import ReloadedFiles


class ServerCertificate:
    """A certificate, its key, and optionally the authorities whose client certificates are required."""

    def __init__(
        self, cert: Path, key: Path, client_ca: Path | None = None, expiries: Expiries | None = None
    ) -> None:
        """Reads and checks the files. Blocks. Raises ValueError with the file and the reason."""
        self._expiries = expiries
        self._cert, self._key, self._client_ca = cert, key, client_ca
        self._files = ReloadedFiles(cert, key, client_ca)
        self._current = self._load()

    def credentials(self) -> grpc.ServerCredentials:
        """Credentials for one listening address; gRPC fetches changed ones at each handshake."""
        given = self._current

        def renewed() -> grpc.ServerCertificateConfiguration | None:
            nonlocal given
            current = self._current
            if current is given:
                return None
            given = current
            return current

        return grpc.dynamic_ssl_server_credentials(
            given,
            renewed,  # type: ignore[arg-type]  # None says that nothing is new
            require_client_authentication=self._client_ca is not None,
        )

    async def follow(self) -> NoReturn:
        """Reloads the files when they change, for ever."""
        await self._files.follow(self._load, self._use)

    def _use(self, loaded: grpc.ServerCertificateConfiguration) -> None:
        self._current = loaded

    def _load(self) -> grpc.ServerCertificateConfiguration:
        certificates.check(self._cert, self._key)
        authorities = None
        if self._client_ca is not None:
            certificates.check_authorities(self._client_ca)
            authorities = _read(self._client_ca)
        if self._expiries is not None:
            self._expiries.note("server", self._cert)
        return grpc.ssl_server_certificate_configuration(
            [(_read(self._key), _read(self._cert))], root_certificates=authorities
        )


def _read(file: Path) -> bytes:
    """The file's bytes. Raises ValueError if it can't be read."""
    try:
        return file.read_bytes()
    except OSError as error:
        raise ValueError(f"{file}: can't be read: {error.strerror}") from None
