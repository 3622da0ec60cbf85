"""Decides which pages may read answers from a sandbox (CORS; Fetch, 3.3).

A page of a sandbox has an opaque origin, sent as `null`; without permission it could not load its own modules
and data. Other origins need the operator's permission. No permission includes cookies or credentials, and a
reader needs the signed path anyway, which is the only credential.
"""

from collections.abc import Sequence

from starlette.responses import Response
from starlette.types import Scope

_OPAQUE = b"null"
_METHODS = "DELETE, GET, HEAD, PATCH, POST, PUT"
_SECONDS = "600"


def preflight(scope: Scope, origins: Sequence[str]) -> Response | None:
    """Returns the answer to a CORS preflight request; None for any other request."""
    headers = dict(scope["headers"])
    if scope["method"] != "OPTIONS" or b"access-control-request-method" not in headers:
        return None
    response = Response(status_code=204, headers={"vary": "origin, access-control-request-headers"})
    if leave := cors_headers(scope, origins):
        response.raw_headers += leave
        response.headers["access-control-allow-methods"] = _METHODS
        response.headers["access-control-max-age"] = _SECONDS
        if asked := headers.get(b"access-control-request-headers", b"").decode("latin-1"):
            response.headers["access-control-allow-headers"] = asked
    return response


def cors_headers(scope: Scope, origins: Sequence[str]) -> list[tuple[bytes, bytes]]:
    """Returns the header fields that let the requesting page read the answer; empty if it may not."""
    origin = dict(scope["headers"]).get(b"origin", b"")
    if not origin or (origin != _OPAQUE and origin.decode("latin-1") not in origins and "*" not in origins):
        return []
    return [(b"access-control-allow-origin", origin), (b"access-control-expose-headers", b"*")]
