"""Connects commands to a core: the address is an option, credentials come from the environment."""

import os
from pathlib import Path
from typing import NoReturn

import grpc
import typer

from portico.cli.console import Console
from portico.client import Client
from portico.client.tls import channel_credentials
from portico.process import secrets

console = Console(stderr=True, soft_wrap=True)

CREDENTIAL = "PORTICO_CREDENTIAL"
# If any of these is set, the connection uses TLS: the authorities to trust, and the client's certificate and
# key.
TLS, TLS_CA, TLS_CERT, TLS_KEY = (f"PORTICO_{name}" for name in ("TLS", "TLS_CA", "TLS_CERT", "TLS_KEY"))
FILES = (TLS_CA, TLS_CERT, TLS_KEY)


def connect(core: str, *, timeout: float = 30.0) -> Client:
    """Returns a client with the credential and the TLS files that the environment names."""
    try:
        secrets.from_file(os.environ, CREDENTIAL)
    except ValueError as error:
        _refuse(str(error))
    credential = os.environ.get(CREDENTIAL) or None
    return Client(core, credential=credential, timeout=timeout, tls=_tls())


def _tls() -> grpc.ChannelCredentials | None:
    """Returns the TLS credentials; exits with a message if a file cannot be used."""
    ca, cert, key = (Path(value) if (value := os.environ.get(name)) else None for name in FILES)
    if not (os.environ.get(TLS) or ca or cert or key):
        return None
    if (cert is None) != (key is None):
        _refuse(f"{TLS_CERT} and {TLS_KEY} go together: set both")
    try:
        return channel_credentials(ca, cert=cert, key=key)
    except ValueError as error:
        _refuse(f"{', '.join(name for name in FILES if os.environ.get(name))}: {error}")


def _refuse(sentence: str) -> NoReturn:
    console.print(sentence, style="red")
    raise typer.Exit(2)
