"""HTTP requests as bytes, and the events of a reply."""

import json
from typing import Any

OK = b"HTTP/1.1 200"
TERMINATOR = b"0\r\n\r\n"
DONE = "data: [DONE]"


class BrokenReply(Exception):
    """A server that answers wrongly has no speed."""


def post(path: str, body: bytes, credential: str = "") -> bytes:
    """A POST request with a JSON body."""
    authorization = f"Authorization: Bearer {credential}\r\n" if credential else ""
    return (
        b"POST %s HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\nA2A-Version: 1.0\r\n"
        b"%sContent-Length: %d\r\n\r\n%s" % (path.encode(), authorization.encode(), len(body), body)
    )


def read(path: str) -> bytes:
    """A GET request."""
    return f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n".encode()


def events(reply: bytes) -> list[dict[str, Any]]:
    """The events of a whole chunked reply."""
    head, _, body = reply.partition(b"\r\n\r\n")
    if not head.startswith(OK):
        raise BrokenReply(f"not 200: {head[:200]!r} {body[:200]!r}")
    if not body.endswith(TERMINATOR):
        raise BrokenReply(f"cut off: {body[-200:]!r}")
    lines = _unchunk(body).decode().split("\n")
    return [json.loads(line[6:]) for line in lines if line.startswith("data: ") and line != DONE]


def _unchunk(body: bytes) -> bytes:
    parts, start = [], 0
    while start < len(body):
        end = body.index(b"\r\n", start)
        size = int(body[start:end], 16)
        parts.append(body[end + 2 : end + 2 + size])
        start = end + 4 + size
    return b"".join(parts)
