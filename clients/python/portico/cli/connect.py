"""How commands reach a core: its address by an option, the rest by the environment."""

import os

from portico.client import Client

CREDENTIAL = "PORTICO_CREDENTIAL"


def connect(core: str, *, timeout: float = 30.0) -> Client:
    """A client with the credential of the environment, if there is one."""
    return Client(core, credential=os.environ.get(CREDENTIAL) or None, timeout=timeout)
