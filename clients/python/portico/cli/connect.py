"""How commands reach a core: its address by an option, the rest by the environment."""

import os
from pathlib import Path

from portico.client import Client
from portico.client.tls import channel_credentials

CREDENTIAL = "PORTICO_CREDENTIAL"
# With any of these a core is reached by TLS: whose certificate it has, and what is shown to it.
TLS, TLS_CA, TLS_CERT, TLS_KEY = (f"PORTICO_{name}" for name in ("TLS", "TLS_CA", "TLS_CERT", "TLS_KEY"))


def connect(core: str, *, timeout: float = 30.0) -> Client:
    """A client with the credential and the TLS of the environment, if there are any."""
    credential = os.environ.get(CREDENTIAL) or None
    ca, cert, key = (_file(name) for name in (TLS_CA, TLS_CERT, TLS_KEY))
    tls = channel_credentials(ca, cert=cert, key=key) if os.environ.get(TLS) or ca or cert else None
    return Client(core, credential=credential, timeout=timeout, tls=tls)


def _file(name: str) -> Path | None:
    value = os.environ.get(name)
    return Path(value) if value else None
