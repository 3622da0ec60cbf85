"""Why a connection to a core fails as it begins: gRPC's words of it, in ours."""

import re

# By what BoringSSL says of a certificate that it does not accept.
_UNKNOWN_AUTHORITY = (
    "unable to get local issuer certificate",
    "self signed certificate",
    "self signed certificate in certificate chain",
    "unable to verify the first certificate",
)
_HANDSHAKE = re.compile(r"Tls handshake failed \(\w+\): (?:.*OPENSSL_internal:)?(\w+)(?:: (.*?))?(?:: OK)?$")
_CLOSED = re.compile(r"last error: UNAVAILABLE: \S+ (Handshake read failed \()?Socket closed\)?$")


def handshake_error(details: str) -> str:
    """Why there can be no TLS with the core, from a status's details; empty if that is not what they say."""
    if "Hostname Verification Check failed" in details:
        return "the core's certificate is refused: it is not for the host that was asked for"
    if "missing selected ALPN property" in details:
        return "what answers there by TLS is no core: it does not speak HTTP/2"
    found = _HANDSHAKE.search(details)
    if found is None:
        return ""
    kind, why = found.groups()
    if kind == "WRONG_VERSION_NUMBER":
        return "the core does not speak TLS at this address; its certificate was never seen"
    if kind != "CERTIFICATE_VERIFY_FAILED":
        return f"the TLS handshake with the core failed: {kind.lower().replace('_', ' ')}"
    if why in _UNKNOWN_AUTHORITY:
        why = f"no authority that is trusted here has signed it ({why})"
    return f"the core's certificate is refused: {why}"


def closed_early(details: str) -> bool | None:
    """For a connection that the core has closed as it began, whether this side's handshake, if any, was over:
    with TLS 1.3 this is all that is seen of a core that refuses this side's certificate. Else None."""
    found = _CLOSED.search(details)
    return None if found is None else found.group(1) is None
