"""The lists of header fields that pass to and from a server in a sandbox. Nothing else passes."""

import re
from collections.abc import Iterable, Sequence
from typing import Final

from portico.gateways.sse.ports.proxy_errors import protocol_error
from portico.gateways.sse.ports.redirects import rewrite_location

Headers = list[tuple[bytes, bytes]]

# Of requests. A caller's credentials, and what proxies before this gateway add, are never among them.
_IN: Final = frozenset(
    (
        *(b"accept", b"accept-encoding", b"accept-language", b"cache-control", b"content-encoding"),
        *(b"content-language", b"content-type", b"if-match", b"if-modified-since", b"if-none-match"),
        *(b"if-range", b"if-unmodified-since", b"last-event-id", b"mcp-protocol-version", b"mcp-session-id"),
        *(b"range", b"user-agent", b"x-requested-with"),
    )
)
# Of answers: what describes the content. Nothing that acts on a browser, a proxy or another page.
_OUT: Final = frozenset(
    (
        *(b"accept-ranges", b"allow", b"content-disposition", b"content-encoding", b"content-language"),
        *(b"content-range", b"content-type", b"etag", b"last-modified", b"mcp-session-id", b"retry-after"),
    )
)
_LISTS: Final = frozenset((b"allow", b"content-encoding", b"content-language"))  # may be there several times
# Never by a setting either: framing, credentials, and what this gateway sets itself.
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
    """Check a name that an operator adds to a list, and return it in lower case. Raises ValueError."""
    lower = name.lower()
    if not _NAME.fullmatch(lower):
        raise ValueError(f"has {name!r}, which is not the name of a header field")
    if lower in _OURS or lower.startswith(("access-control-", "sec-")):
        raise ValueError(f"has {lower!r}, which never passes to or from a sandbox")
    return lower


class PortHeaders:
    """The lists of one gateway, with the names that its operator has added."""

    def __init__(self, more_in: Sequence[str] = (), more_out: Sequence[str] = ()) -> None:
        self._in = _IN | {name.encode() for name in more_in}
        self._out = _OUT | {name.encode() for name in more_out}

    def inwards(self, given: Iterable[tuple[bytes, bytes]], prefix: str) -> Headers:
        """The fields of a request that pass, without its framing."""
        passed = [(name, value) for name, value in given if name in self._in]
        return [(b"host", b"localhost"), (b"x-forwarded-prefix", prefix.encode()), *passed]

    def outwards(self, given: Iterable[tuple[bytes, bytes]], path: str, prefix: str) -> Headers:
        """The fields of an answer that pass, and our own, without its framing. `path` is the request's.

        Raises PortFailure.
        """
        told: Headers = []
        seen: set[bytes] = set()
        cache, varies = b"private, no-cache", [b"origin"]
        for name, value in given:
            if not _VALUE.fullmatch(value):
                raise protocol_error("the server inside sent a header field with control characters")
            if name == b"cache-control" and b"no-store" in value.lower():
                cache = b"no-store"
            elif name == b"vary":
                varies.append(value)
            elif name == b"location" or name in self._out:
                if name in seen and name not in _LISTS:
                    raise protocol_error(f"the server inside sent {name.decode()} more than once")
                seen.add(name)
                told.append((name, rewrite_location(value, path, prefix) if name == b"location" else value))
        return [*told, (b"cache-control", cache), (b"vary", b", ".join(varies)), *_WALLS]
