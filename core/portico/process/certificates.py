"""Checks certificate files before gRPC or uvicorn use them: their own messages do not name the problem."""

import ssl
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from cryptography.x509 import Certificate


def check(cert: Path, key: Path) -> None:
    """Checks that `cert` has a certificate and its chain, all valid now, and `key` its private key. Raises
    ValueError with the file and the reason."""
    chain = _certificates(cert)
    for number, certificate in enumerate(chain):
        if problem := _problem(certificate):
            which = f"certificate {number + 1} of its chain " if number else ""
            raise ValueError(f"{cert}: {which}{problem}")
    _check_key(key, cert, chain[0])
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(cert, key)
    except ssl.SSLError as error:
        why = (error.reason or "no reason given").lower().replace("_", " ")
        raise ValueError(f"{cert}: OpenSSL refuses it: {why}") from None


def check_authorities(file: Path) -> None:
    """Checks that the file has a certificate that is valid now. Raises ValueError with the file and the
    reason."""
    problems = [_problem(certificate) for certificate in _certificates(file)]
    if all(problems):
        raise ValueError(f"{file}: {problems[0]}")


def expiry(file: Path) -> float:
    """When the first of a file's certificates expires, in seconds since the epoch. Raises ValueError."""
    return min(certificate.not_valid_after_utc.timestamp() for certificate in _certificates(file))


def _certificates(file: Path) -> "list[Certificate]":
    """The file's certificates, at least one. Raises ValueError."""
    from cryptography import x509  # imported here: it takes long, and only processes with TLS need it

    content = _content(file)
    try:
        return x509.load_pem_x509_certificates(content)
    except ValueError:
        raise ValueError(f"{file}: is not a certificate (PEM)") from None


def _problem(certificate: "Certificate") -> str:
    """Why the certificate is not valid now; empty if it is."""
    now = datetime.now(UTC)
    if now > certificate.not_valid_after_utc:
        return f"expired on {certificate.not_valid_after_utc:%Y-%m-%d %H:%M} UTC"
    if now < certificate.not_valid_before_utc:
        return f"is not valid before {certificate.not_valid_before_utc:%Y-%m-%d %H:%M} UTC"
    return ""


def _check_key(file: Path, cert: Path, certificate: "Certificate") -> None:
    """Raises ValueError unless the file has the certificate's private key."""
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives.serialization import load_pem_private_key

    content = _content(file)
    try:
        key = load_pem_private_key(content, None)
    except TypeError:
        raise ValueError(f"{file}: is encrypted; use a private key without a password") from None
    except (ValueError, UnsupportedAlgorithm):
        raise ValueError(f"{file}: is not a private key (PEM)") from None
    if key.public_key() != certificate.public_key():
        raise ValueError(f"{file}: is not the private key of {cert}")


def _content(file: Path) -> bytes:
    """The file's bytes. Raises ValueError if it can't be read."""
    try:
        return file.read_bytes()
    except OSError as error:
        raise ValueError(f"{file}: can't be read: {error.strerror}") from None
