"""Whether files of certificates can be used, before gRPC and uvicorn say so in their way."""

import ssl
from pathlib import Path


def check(cert: Path, key: Path, client_ca: Path | None = None) -> None:
    """Raises ValueError for what is no certificate with its key, and no authority."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    try:
        context.load_cert_chain(cert, key, password=_none)
    except ssl.SSLError as error:
        raise ValueError(
            f"{cert} and {key} are no certificate (PEM) and its private key without a password"
            f"{_reason(error)}"
        ) from None
    except OSError as error:
        raise ValueError(f"{cert} and {key} can't be read: {error.strerror}") from None
    if client_ca is not None:
        try:
            context.load_verify_locations(client_ca)
        except ssl.SSLError as error:
            raise ValueError(f"{client_ca} has no certificates (PEM){_reason(error)}") from None
        except OSError as error:
            raise ValueError(f"{client_ca} can't be read: {error.strerror}") from None


def _none() -> str:
    """Instead of a question in the terminal."""
    return ""


def _reason(error: ssl.SSLError) -> str:
    return f": {error.reason.lower().replace('_', ' ')}" if error.reason else ""
