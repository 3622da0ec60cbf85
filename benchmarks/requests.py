"""Builds HTTP requests as bytes, and parses the events of a reply."""

import json
from typing import Any

OK = b"HTTP/1.1 200"
TERMINATOR = b"0\r\n\r\n"
DONE = "data: [DONE]"


class BrokenReply(Exception):
    """The server's reply is wrong, so its speed means nothing."""


def post(path: str, body: bytes, credential: str = "") -> bytes:
    """Returns a POST request with a JSON body."""
    authorization = f"Authorization: Bearer {credential}\r\n" if credential else ""
    return (
        b"POST %s HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\nA2A-Version: 1.0\r\n"
        b"%sContent-Length: %d\r\n\r\n%s" % (path.encode(), authorization.encode(), len(body), body)
    )


def read(path: str) -> bytes:
    """Returns a GET request."""
    return f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n".encode()


def events(reply: bytes) -> list[dict[str, Any]]:
    """Returns the events of a complete chunked reply."""
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
