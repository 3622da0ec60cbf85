"""How commands reach a core: its address by an option, the rest by the environment."""

import os
from pathlib import Path

import typer

from portico.cli.console import Console
from portico.client import Client
from portico.client.tls import channel_credentials
from portico.process import secrets

console = Console(stderr=True, soft_wrap=True)

CREDENTIAL = "PORTICO_CREDENTIAL"
# With any of these a core is reached by TLS: whose certificate it has, and what is shown to it.
TLS, TLS_CA, TLS_CERT, TLS_KEY = (f"PORTICO_{name}" for name in ("TLS", "TLS_CA", "TLS_CERT", "TLS_KEY"))


def connect(core: str, *, timeout: float = 30.0) -> Client:
    """A client with the credential and the TLS of the environment, if there are any."""
    try:
        secrets.from_file(os.environ, CREDENTIAL)
    except ValueError as error:
        console.print(str(error), style="red")
        raise typer.Exit(2) from None
    credential = os.environ.get(CREDENTIAL) or None
    ca, cert, key = (_file(name) for name in (TLS_CA, TLS_CERT, TLS_KEY))
    tls = channel_credentials(ca, cert=cert, key=key) if os.environ.get(TLS) or ca or cert else None
    return Client(core, credential=credential, timeout=timeout, tls=tls)


def _file(name: str) -> Path | None:
    """Ends the command for one that can't be read."""
    value = os.environ.get(name)
    if not value:
        return None
    try:
        with open(value, "rb"):
            return Path(value)
    except OSError as error:
        console.print(f"{name} names a file that can't be read: {value}: {error.strerror}", style="red")
        raise typer.Exit(2) from None
