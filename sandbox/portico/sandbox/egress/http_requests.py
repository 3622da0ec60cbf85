"""Parses requests to the proxy (RFC 9110, 9112) and serializes them again for their host.

Parsers differ in what they tolerate, and a request that two of them read differently bypasses a check. So a
head must have the one form that all agree on; h11 parses it, and the forwarded request is serialized from
what h11 parsed.
"""

import re
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Final

import h11

from portico.sandbox.egress.host_names import canonical, written
from portico.sandbox.egress.refusal import RequestRefused

MAX_HEAD: Final = 32 << 10  # bytes
# Each line ends in CR LF and starts with a name directly before its colon; other control characters are
# refused.
_HEAD: Final = re.compile(rb"[!-~]+ [!-~]+ HTTP/1\.[01]\r\n(?:[!-9;-~]+:[\t -~\x80-\xff]*\r\n)*\r\n")
_NAME: Final = re.compile(rb"([!-9;-~]+):")
_URL: Final = re.compile(
    r"http://(\[[^\[\]]*\]|[^\[\]/?#@:]+)(?::([0-9]{1,5}))?(/[^?#]*)?(\?[^#]*)?", re.ASCII | re.IGNORECASE
)
_AUTHORITY: Final = re.compile(r"(\[[^\[\]]*\]|[^\[\]/?#@:]+)(?::([0-9]{1,5}))?", re.ASCII)
_OF_ONE_CONNECTION: Final = frozenset(
    {b"connection", b"keep-alive", b"te", b"trailer", b"transfer-encoding", b"upgrade", b"expect"}
)
# Headers that say where a message goes or ends; each may occur once.
_NEEDED: Final = frozenset({b"host", b"content-length", b"transfer-encoding"})

Read = Callable[[], Awaitable[bytes]]


@dataclass(frozen=True, slots=True)
class Target:
    """What a request asks the proxy for."""

    tunnel: bool  # by CONNECT
    host: str  # canonical
    port: int
    path: str = ""  # with the query

    @classmethod
    def of(cls, request: h11.Request) -> "Target":
        """Extracts the target. Raises RequestRefused if the request is none for a proxy, or has two hosts."""
        text = request.target.decode("ascii")
        if request.method == b"CONNECT":
            match = _AUTHORITY.fullmatch(text)
            if match is None or match[2] is None:
                raise _bad("CONNECT requires host:port")
            target = cls(True, *_endpoint(match[1], match[2], 443))
        else:
            match = _URL.fullmatch(text)
            if match is None:
                raise _bad("a proxy requires http://host/path, and CONNECT for https")
            path = (match[3] or "/") + (match[4] or "")
            target = cls(False, *_endpoint(match[1], match[2], 80), path)
        for name, value in request.headers:
            if name == b"host" and not target._is(value.decode("latin-1")):
                raise _bad("the Host header and the target of the request differ")
        return target

    def _is(self, host: str) -> bool:
        match = _AUTHORITY.fullmatch(host)
        default = 443 if self.tunnel else 80
        try:
            named = match and _endpoint(match[1], match[2], self.port if self.tunnel else default)
        except RequestRefused:
            return False
        return named == (self.host, self.port)


def _endpoint(host: str, digits: str | None, default: int) -> tuple[str, int]:
    port = default if digits is None else int(digits)
    if not 0 < port < 65_536:
        raise _bad("the port is not from 1 to 65535")
    try:
        return canonical(host), port
    except ValueError:
        raise _bad("the host is neither a name nor an address in its usual form") from None


async def read_request(read: Read, client: h11.Connection) -> h11.Request | None:
    """Reads the head of a request; bytes after it stay in `client`. None when the client closes without a
    request. Raises RequestRefused."""
    data = bytearray()
    end = -1
    while end < 0:
        piece = await read()
        if not piece:
            if data:
                raise _bad("the request is incomplete")
            return None
        searched = max(0, len(data) - 3)
        data += piece
        end = data.find(b"\r\n\r\n", searched)
        if (end if end >= 0 else len(data)) > MAX_HEAD:
            raise RequestRefused(431, f"the head of the request has more than {MAX_HEAD} bytes")
    head = bytes(data[: end + 4])
    _check_head(head)
    try:
        client.receive_data(bytes(data))
        request = client.next_event()
    except h11.RemoteProtocolError as error:
        raise RequestRefused(error.error_status_hint, f"not a request: {error}") from None
    if not isinstance(request, h11.Request):
        raise _bad("not a request")
    return request


def _check_head(head: bytes) -> None:
    """Raises RequestRefused for what h11 tolerates, or normalizes so that it cannot be seen later."""
    if _HEAD.fullmatch(head) is None:
        raise _bad("the head of the request is not in the form of HTTP/1.1")
    names = Counter(match[1].lower() for line in head.split(b"\r\n") if (match := _NAME.match(line)))
    has_body = names[b"content-length"] + names[b"transfer-encoding"]
    if has_body > 1:
        raise _bad("more than one header for the length of the body")
    line = head[: head.index(b"\r\n")]
    if names[b"transfer-encoding"] and line.endswith(b"1.0"):
        raise _bad("transfer-encoding in HTTP/1.0")
    if has_body and line.startswith(b"CONNECT "):
        raise _bad("CONNECT with a body")


def forwarded(request: h11.Request, target: Target) -> h11.Request:
    """Returns the request for its host, as the only one of its connection. Raises RequestRefused."""
    if _named(request) & _NEEDED:
        raise _bad("the Connection header names a header that must not be dropped")
    host = written(target.host, target.port) if target.port != 80 else written(target.host, 80)[:-3]
    headers = [(b"Host", host.encode())]
    headers += [(raw, value) for raw, name, value in _end_to_end(request) if name != b"host"]
    if any(name == b"transfer-encoding" for name, _ in request.headers):
        headers.append((b"Transfer-Encoding", b"chunked"))
    headers.append((b"Connection", b"close"))
    return h11.Request(method=request.method, target=target.path, headers=headers)


def returned(response: h11.Response) -> h11.Response:
    """Returns the response for code inside, as the last one of its connection."""
    chunked = any(name == b"transfer-encoding" for name, _ in response.headers)
    headers = [
        (raw, value)
        for raw, name, value in _end_to_end(response)
        if not (chunked and name == b"content-length")
    ]
    headers.append((b"Connection", b"close"))
    return h11.Response(status_code=response.status_code, reason=response.reason, headers=headers)


def _end_to_end(message: h11.Request | h11.Response) -> list[tuple[bytes, bytes, bytes]]:
    """Returns headers as (original name, name in lower case, value), without those that apply to one
    connection only (RFC 9110 section 7.6.1)."""
    dropped = _OF_ONE_CONNECTION | (_named(message) - _NEEDED)
    return [
        (raw, name, value)
        for (raw, value), (name, _) in zip(message.headers.raw_items(), message.headers, strict=True)
        if name not in dropped and not name.startswith(b"proxy-")
    ]


def _named(message: h11.Request | h11.Response) -> set[bytes]:
    """Returns the headers that the Connection header names."""
    values = [value for name, value in message.headers if name == b"connection"]
    return {name.strip().lower() for value in values for name in value.split(b",")}


def _bad(reason: str) -> RequestRefused:
    return RequestRefused(400, reason)
