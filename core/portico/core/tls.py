"""TLS of a core's TCP addresses; Unix sockets have none, and need none."""

import grpc

from portico.core.settings import CoreSettings
from portico.process import certificates


def server_credentials(settings: CoreSettings) -> grpc.ServerCredentials | None:
    """None without a certificate. Raises ValueError for files that can't be used."""
    if settings.tls_cert is None or settings.tls_key is None:
        return None
    certificates.check(settings.tls_cert, settings.tls_key)
    if settings.tls_client_ca is not None:
        certificates.check_authorities(settings.tls_client_ca)
    pair = (settings.tls_key.read_bytes(), settings.tls_cert.read_bytes())
    client_ca = None if settings.tls_client_ca is None else settings.tls_client_ca.read_bytes()
    return grpc.ssl_server_credentials(
        [pair], root_certificates=client_ca, require_client_auth=client_ca is not None
    )
