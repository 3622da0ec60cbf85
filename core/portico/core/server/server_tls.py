"""TLS for the core's TCP addresses; Unix sockets need none."""

from portico.core.settings.core_settings import CoreSettings
from portico.process.certificate_metrics import Expiries
from portico.process.server_certificate import ServerCertificate


def server_certificate(settings: CoreSettings) -> ServerCertificate | None:
    """Reads the configured certificate; None if TLS is not configured. Blocks. Raises ValueError for files
    that can't be used."""
    expiries = Expiries()
    if settings.tls_cert is None or settings.tls_key is None:
        return None
    return ServerCertificate(settings.tls_cert, settings.tls_key, settings.tls_client_ca, expiries)
