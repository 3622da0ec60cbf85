"""Requests to /process as bytes, and whether a reply is what was asked for."""

import json
from itertools import count
from uuid import uuid4

OK = b"HTTP/1.1 200"
TERMINATOR = b"0\r\n\r\n"
_numbers = count(1)
_prefix = uuid4().hex[:8]


class BrokenReply(Exception):
    """A server that answers wrongly has no speed."""


def ask(text: str) -> bytes:
    """A request with a user and a session of its own: the peer refuses concurrent ones that share."""
    name = f"{_prefix}{next(_numbers)}"
    message = {"role": "user", "type": "message", "content": [{"type": "text", "text": text}]}
    body = json.dumps({"input": [message], "session_id": f"s-{name}", "user_id": f"u-{name}"}).encode()
    return (
        b"POST /process HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\n"
        b"Content-Length: %d\r\n\r\n%s" % (len(body), body)
    )


def read(path: str) -> bytes:
    """A GET request."""
    return f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n".encode()


def events(reply: bytes) -> list[dict[str, object]]:
    """The events of a whole chunked reply."""
    head, _, body = reply.partition(b"\r\n\r\n")
    if not head.startswith(OK):
        raise BrokenReply(f"not 200: {head[:200]!r} {body[:200]!r}")
    if not body.endswith(TERMINATOR):
        raise BrokenReply(f"cut off: {body[-200:]!r}")
    lines = _unchunk(body).decode().split("\n")
    return [json.loads(line[6:]) for line in lines if line.startswith("data: ")]


def _unchunk(body: bytes) -> bytes:
    parts, start = [], 0
    while start < len(body):
        end = body.index(b"\r\n", start)
        size = int(body[start:end], 16)
        parts.append(body[end + 2 : end + 2 + size])
        start = end + 4 + size
    return b"".join(parts)


def check(reply: bytes, tokens: int) -> None:
    """Raises BrokenReply unless it is whole: numbered without gaps, every token, one terminal event."""
    got = events(reply)
    numbers = [event["sequence_number"] for event in got]
    if numbers != list(range(len(got))):
        raise BrokenReply(f"the events are numbered {numbers}")
    ends = [n for n, event in enumerate(got) if _ends_the_run(event)]
    if ends != [len(got) - 1] or got[-1]["status"] != "completed":
        raise BrokenReply(f"it ends with {got[-1]!r}")
    said = [str(event["text"]) for event in got if event["object"] == "content" and event["delta"] is True]
    if said != [f"tok{number} " for number in range(tokens)]:
        raise BrokenReply(f"{len(said)} tokens and not {tokens}")


def _ends_the_run(event: dict[str, object]) -> bool:
    return event["object"] == "response" and event["status"] not in ("created", "queued", "in_progress")
