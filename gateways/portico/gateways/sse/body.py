"""A request's body, read with a limit and with the media type checked."""

from starlette.types import Receive, Scope

from portico.gateways.sse.errors import BadRequest


class Disconnected(Exception):
    """The caller left before the request was whole."""


async def read_json_body(scope: Scope, receive: Receive, limit: int) -> bytes:
    """Raises BadRequest (413 too large, 415 not JSON), Disconnected."""
    media_type = b""
    for name, value in scope["headers"]:
        if name == b"content-type":
            media_type = value.partition(b";")[0].strip().lower()
        elif name == b"content-length" and value.isdigit() and int(value) > limit:
            raise too_large(limit)
    if media_type != b"application/json" and not media_type.endswith(b"+json"):
        raise BadRequest(
            "send JSON, with the header content-type: application/json",
            status=415,
            code="UNSUPPORTED_MEDIA_TYPE",
        )
    message = await receive()
    body: bytes = message.get("body", b"")
    if message["type"] == "http.request" and not message.get("more_body"):
        if len(body) > limit:
            raise too_large(limit)
        return body
    parts = []
    size = 0
    while True:
        if message["type"] == "http.disconnect":
            raise Disconnected
        parts.append(message.get("body", b""))
        size += len(parts[-1])
        if size > limit:
            raise too_large(limit)
        if not message.get("more_body"):
            return b"".join(parts)
        message = await receive()


def too_large(limit: int) -> BadRequest:
    return BadRequest(f"the body is larger than {limit} bytes", status=413, code="BODY_TOO_LARGE")
