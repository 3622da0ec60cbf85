"""Allow-lists of the header fields that pass to and from a server in a sandbox. No other field passes."""

import re
from collections.abc import Iterable, Sequence
from typing import Final

from portico.gateways.sse.ports.proxy_errors import protocol_error
from portico.gateways.sse.ports.redirects import rewrite_location

Headers = list[tuple[bytes, bytes]]

# Request fields. Never the caller's credentials, nor fields that proxies in front of this gateway add.
_IN: Final = frozenset(
    (
        *(b"accept", b"accept-encoding", b"accept-language", b"cache-control", b"content-encoding"),
        *(b"content-language", b"content-type", b"if-match", b"if-modified-since", b"if-none-match"),
        *(b"if-range", b"if-unmodified-since", b"last-event-id", b"mcp-protocol-version", b"mcp-session-id"),
        *(b"range", b"user-agent", b"x-requested-with"),
    )
)
# Answer fields that describe the content. None that affects a browser, a proxy or another page.
_OUT: Final = frozenset(
    (
        *(b"accept-ranges", b"allow", b"content-disposition", b"content-encoding", b"content-language"),
        *(b"content-range", b"content-type", b"etag", b"last-modified", b"mcp-session-id", b"retry-after"),
    )
)
# fields that may occur several times
_LISTS: Final = frozenset((b"allow", b"content-encoding", b"content-language"))
# Fields that settings cannot add: framing, credentials, and fields that this gateway sets itself.
_OURS: Final = frozenset(
    (
        *("authorization", "cache-control", "connection", "content-length", "content-security-policy"),
        *("cookie", "expect", "forwarded", "host", "keep-alive", "location", "proxy-authenticate"),
        *("proxy-authorization", "proxy-connection", "referrer-policy", "set-cookie", "te", "trailer"),
        *("transfer-encoding", "upgrade", "vary", "www-authenticate", "x-content-type-options"),
        *("x-forwarded-prefix",),
    )
)
_NAME: Final = re.compile(r"[-!#$%&'*+.^_`|~0-9a-z]+")  # RFC 9110, 5.6.2; names are in lower case here
_VALUE: Final = re.compile(rb"[\t\x20-\x7e\x80-\xff]*")
_SANDBOX: Final = b"sandbox allow-scripts allow-forms allow-modals allow-popups allow-downloads"
_WALLS: Final = (
    (b"content-security-policy", _SANDBOX),
    (b"referrer-policy", b"no-referrer"),
    (b"x-content-type-options", b"nosniff"),
)


def extra_name(name: str) -> str:
    """Checks a field name that an operator adds to a list, and returns it in lower case. Raises
    ValueError.
    """
    lower = name.lower()
    if not _NAME.fullmatch(lower):
        raise ValueError(f"has {name!r}, which is not a valid header field name")
    if lower in _OURS or lower.startswith(("access-control-", "sec-")):
        raise ValueError(f"has {lower!r}, which may never pass to or from a sandbox")
    return lower


class PortHeaders:
    """The allow-lists of one gateway, including the names that its operator added."""

    def __init__(self, more_in: Sequence[str] = (), more_out: Sequence[str] = ()) -> None:
        self._in = _IN | {name.encode() for name in more_in}
        self._out = _OUT | {name.encode() for name in more_out}

    def inwards(self, given: Iterable[tuple[bytes, bytes]], prefix: str) -> Headers:
        """Returns the fields of a request that pass, without its framing."""
        passed = [(name, value) for name, value in given if name in self._in]
        return [(b"host", b"localhost"), (b"x-forwarded-prefix", prefix.encode()), *passed]

    def outwards(self, given: Iterable[tuple[bytes, bytes]], path: str, prefix: str) -> Headers:
        """Returns the fields of an answer that pass, and the gateway's own, without its framing.

        `path` is the request's path. Raises PortFailure.
        """
        told: Headers = []
        seen: set[bytes] = set()
        cache, varies = b"private, no-cache", [b"origin"]
        for name, value in given:
            if not _VALUE.fullmatch(value):
                raise protocol_error("the server in the sandbox sent a header field with control characters")
            if name == b"cache-control" and b"no-store" in value.lower():
                cache = b"no-store"
            elif name == b"vary":
                varies.append(value)
            elif name == b"location" or name in self._out:
                if name in seen and name not in _LISTS:
                    raise protocol_error(
                        f"the server in the sandbox sent the header {name.decode()} more than once"
                    )
                seen.add(name)
                told.append((name, rewrite_location(value, path, prefix) if name == b"location" else value))
        return [*told, (b"cache-control", cache), (b"vary", b", ".join(varies)), *_WALLS]
