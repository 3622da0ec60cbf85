"""Rewrites redirects of a server in a sandbox so that they stay below the token's path, or refuses them."""

from typing import Final
from urllib.parse import quote, urlsplit

from portico.gateways.sse.ports.proxy_errors import protocol_error

# Characters that are kept. All others are encoded, since browsers might interpret them differently: spaces,
# backslashes, control characters.
_KEPT: Final = "%/:?#[]@!$&'()*+,;=-._~"
_ITSELF: Final = ("localhost", "127.0.0.1", "::1")


def rewrite_location(value: bytes, path: str, prefix: str) -> bytes:
    """Returns an absolute path below the prefix for the Location of an answer.

    Args:
        value: The Location that the server sent.
        path: The path of the request.
        prefix: The token's path.

    Raises:
        PortFailure: The redirect leads to another server, or is not a URL.
    """
    try:
        to = urlsplit(quote(value, safe=_KEPT))
        host = to.hostname
    except ValueError:
        raise protocol_error("the server in the sandbox redirects to an invalid URL") from None
    if (to.scheme or to.netloc) and not (to.scheme in ("", "http", "https") and host in _ITSELF):
        raise protocol_error("the server in the sandbox redirects to another server")
    base, _, query = path.partition("?")
    target = to.path
    if not target and not to.netloc:
        target = base
        query = to.query or query
    else:
        query = to.query
        if not target.startswith("/") and not to.netloc:
            target = base.rpartition("/")[0] + "/" + target
    told = prefix + _without_dot_segments(quote(target, safe=_KEPT))
    told += f"?{quote(query, safe=_KEPT)}" if query else ""
    return (told + (f"#{to.fragment}" if to.fragment else "")).encode()


def _without_dot_segments(path: str) -> str:
    """Removes dot segments; they never lead above the root (RFC 3986, 5.2.4; URL, 4.4)."""
    kept: list[str] = []
    segments = path.removeprefix("/").split("/")
    for place, segment in enumerate(segments):
        match segment.lower().replace("%2e", "."):
            case "..":
                del kept[-1:]
            case ".":
                pass
            case _:
                kept.append(segment)
                continue
        if place == len(segments) - 1:
            kept.append("")
    return "/" + "/".join(kept)
