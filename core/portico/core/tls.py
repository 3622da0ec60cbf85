"""TLS of a core's TCP addresses; Unix sockets have none, and need none."""

import ssl

import grpc

from portico.core.settings import CoreSettings
from portico.process.settings import named


def server_credentials(settings: CoreSettings) -> grpc.ServerCredentials | None:
    """None without a certificate. Raises ValueError for files that can't be used."""
    if settings.tls_cert is None or settings.tls_key is None:
        return None
    # gRPC would say of each mistake only that it can't listen.
    check = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    try:
        pair = (settings.tls_key.read_bytes(), settings.tls_cert.read_bytes())
        client_ca = None if settings.tls_client_ca is None else settings.tls_client_ca.read_bytes()
        check.load_cert_chain(settings.tls_cert, settings.tls_key)
        if client_ca is not None:
            check.load_verify_locations(settings.tls_client_ca)
    except ssl.SSLError as error:
        names = ", ".join(named(CoreSettings, field) for field in ("tls_cert", "tls_key", "tls_client_ca"))
        raise ValueError(f"{names} are not PEM files that go together: {error.reason}") from None
    except OSError as error:
        raise ValueError(f"the file {error.filename} of TLS can't be read: {error.strerror}") from None
    return grpc.ssl_server_credentials(
        [pair], root_certificates=client_ca, require_client_auth=client_ca is not None
    )
