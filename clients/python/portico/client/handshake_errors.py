"""Finds out why a connection to a core failed during setup, from the texts of gRPC and BoringSSL."""

import re

# BoringSSL's reasons for an untrusted certificate.
_UNKNOWN_AUTHORITY = (
    "unable to get local issuer certificate",
    "self signed certificate",
    "self signed certificate in certificate chain",
    "unable to verify the first certificate",
)
_HANDSHAKE = re.compile(r"Tls handshake failed \(\w+\): (?:.*OPENSSL_internal:)?(\w+)(?:: (.*?))?(?:: OK)?$")
_CLOSED = re.compile(r"last error: UNAVAILABLE: \S+ (Handshake read failed \()?Socket closed\)?$")


def handshake_error(details: str) -> str:
    """Returns why the TLS handshake failed, from a status's details; empty if they report another failure."""
    if "Hostname Verification Check failed" in details:
        return "the core's certificate is refused: it does not cover the requested host name"
    if "missing selected ALPN property" in details:
        return "the server at this address is not a core: it speaks TLS but not HTTP/2"
    found = _HANDSHAKE.search(details)
    if found is None:
        return ""
    kind, why = found.groups()
    if kind == "WRONG_VERSION_NUMBER":
        return "the core does not speak TLS at this address; its certificate was never seen"
    if kind != "CERTIFICATE_VERIFY_FAILED":
        return f"the TLS handshake with the core failed: {kind.lower().replace('_', ' ')}"
    if why in _UNKNOWN_AUTHORITY:
        why = f"it is not signed by a trusted authority ({why})"
    return f"the core's certificate is refused: {why}"


def closed_early(details: str) -> bool | None:
    """Returns whether this side's handshake had ended when the core closed a new connection.

    With TLS 1.3 this is the only sign of a core that refuses this side's certificate. The result is True
    without TLS, and None if the details report another failure.
    """
    found = _CLOSED.search(details)
    return None if found is None else found.group(1) is None
