"""The target of a request below /ports/."""

import re
from dataclasses import dataclass
from typing import Final
from urllib.parse import quote

from starlette.responses import Response
from starlette.types import Scope

from portico.gateways.http.request_telemetry import PORTS
from portico.gateways.sse.errors import error_response

_TOKEN: Final = re.compile(r"[A-Za-z0-9_-]{1,512}")
# characters that HTTP/1.1 allows in a target
_VISIBLE: Final = "".join(chr(code) for code in range(0x21, 0x7F))


@dataclass(frozen=True, slots=True)
class PortTarget:
    """The token of a port, and the request target (path and query) for the server in the sandbox."""

    token: str
    path: str

    @property
    def prefix(self) -> str:
        """The path that redirects stay below."""
        return f"{PORTS}{self.token}"


def target_of(scope: Scope) -> PortTarget | Response:
    """Returns the target, or the answer when the path contains no valid token."""
    raw: bytes = scope.get("raw_path") or scope["path"].encode()
    query: bytes = scope["query_string"]
    asked = f"?{quote(query, safe=_VISIBLE)}" if query else ""
    token, slash, rest = quote(raw, safe=_VISIBLE).removeprefix(PORTS).partition("/")
    if not _TOKEN.fullmatch(token):
        return error_response(404, "NOT_FOUND", "no such port")
    if not slash:
        return Response(status_code=307, headers={"location": f"{PORTS}{token}/{asked}"})
    return PortTarget(token, f"/{rest}{asked}")
