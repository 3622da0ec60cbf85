"""TLS to a core, from files."""

from pathlib import Path

import grpc

from portico.process import certificates


def channel_credentials(
    ca: Path | None = None, *, cert: Path | None = None, key: Path | None = None
) -> grpc.ChannelCredentials:
    """For `Client(tls=...)`: whom to trust, the system's authorities without `ca`, and the client's own
    certificate, for a core that wants one. Blocks. Raises ValueError, with the file and the reason, for one
    that can't be used now."""
    if (cert is None) != (key is None):
        raise ValueError("a client's certificate and its key go together")
    if ca is not None:
        certificates.check_authorities(ca)
    if cert is not None and key is not None:
        certificates.check(cert, key)
    return grpc.ssl_channel_credentials(
        root_certificates=None if ca is None else ca.read_bytes(),
        private_key=None if key is None else key.read_bytes(),
        certificate_chain=None if cert is None else cert.read_bytes(),
    )
