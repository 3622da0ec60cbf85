"""Reads a request's body with a size limit and a checked media type, and detects callers that disconnect."""

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

from starlette.types import Receive, Scope

from portico.gateways.http.errors import BadRequest

T = TypeVar("T")


class Disconnected(Exception):
    """The caller disconnected before it got an answer."""


async def read_json_body(scope: Scope, receive: Receive, limit: int) -> bytes:
    """Reads a JSON body.

    Raises:
        BadRequest: 413 for a body above `limit` bytes, 415 for another media type.
        Disconnected: The caller disconnected.
    """
    media_type = _media_type(scope, limit)
    if media_type != b"application/json" and not media_type.endswith(b"+json"):
        raise BadRequest(
            "the body must be JSON, with the header content-type: application/json",
            status=415,
            code="UNSUPPORTED_MEDIA_TYPE",
        )
    return await _read(receive, limit)


async def read_body(scope: Scope, receive: Receive, limit: int) -> tuple[bytes, bytes]:
    """Reads a body of any media type.

    Returns:
        The body, and its media type in lower case.

    Raises:
        BadRequest: 413 for a body above `limit` bytes.
        Disconnected: The caller disconnected.
    """
    media_type = _media_type(scope, limit)
    return await _read(receive, limit), media_type


def _media_type(scope: Scope, limit: int) -> bytes:
    media_type = b""
    for name, value in scope["headers"]:
        if name == b"content-type":
            media_type = value.partition(b";")[0].strip().lower()
        elif name == b"content-length" and value.isdigit() and int(value) > limit:
            raise too_large(limit)
    return media_type


async def _read(receive: Receive, limit: int) -> bytes:
    parts: list[bytes] = []
    size = 0
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise Disconnected
        body: bytes = message.get("body", b"")
        size += len(body)
        if size > limit:
            raise too_large(limit)
        if not message.get("more_body"):
            return b"".join((*parts, body)) if parts else body
        parts.append(body)


def too_large(limit: int) -> BadRequest:
    """Returns the error for a body above the limit."""
    return BadRequest(f"the body is larger than {limit} bytes", status=413, code="BODY_TOO_LARGE")


async def wait_disconnect(receive: Receive) -> None:
    """Returns when the caller has disconnected. The body must have been read before."""
    while (await receive())["type"] != "http.disconnect":
        pass


async def cancel_on_disconnect(receive: Receive, work: Coroutine[Any, Any, T]) -> T:
    """Returns the result of `work`, which is cancelled when the caller disconnects. Raises Disconnected."""
    working = asyncio.create_task(work)
    gone = asyncio.create_task(wait_disconnect(receive))
    try:
        await asyncio.wait((working, gone), return_when=asyncio.FIRST_COMPLETED)
        if not working.done():
            raise Disconnected
        return working.result()
    finally:
        gone.cancel()
        working.cancel()
        await asyncio.gather(gone, working, return_exceptions=True)
