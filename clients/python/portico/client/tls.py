"""TLS to a core, from files."""

from pathlib import Path

import grpc


def channel_credentials(
    ca: Path | None = None, *, cert: Path | None = None, key: Path | None = None
) -> grpc.ChannelCredentials:
    """For `Client(tls=...)`: whom to trust, the system's authorities without `ca`, and the client's own
    certificate, for a core that wants one. Raises OSError for a file that can't be read."""
    return grpc.ssl_channel_credentials(
        root_certificates=None if ca is None else ca.read_bytes(),
        private_key=None if key is None else key.read_bytes(),
        certificate_chain=None if cert is None else cert.read_bytes(),
    )
