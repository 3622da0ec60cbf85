"""TLS credentials for a core, from files."""

from pathlib import Path

import grpc

from portico.process import certificates


def channel_credentials(
    ca: Path | None = None, *, cert: Path | None = None, key: Path | None = None
) -> grpc.ChannelCredentials:
    """Returns credentials for `Client(tls=...)`. Blocks.

    Args:
        ca: File with the trusted authorities; the system's authorities if omitted.
        cert: File with the client's certificate, for a core that requires one.
        key: File with the certificate's private key.

    Raises:
        ValueError: A file cannot be used; the message has the file and the reason.
    """
    if (cert is None) != (key is None):
        raise ValueError("a client certificate and its key go together: set both")
    if ca is not None:
        certificates.check_authorities(ca)
    if cert is not None and key is not None:
        certificates.check(cert, key)
    return grpc.ssl_channel_credentials(
        root_certificates=None if ca is None else ca.read_bytes(),
        private_key=None if key is None else key.read_bytes(),
        certificate_chain=None if cert is None else cert.read_bytes(),
    )
