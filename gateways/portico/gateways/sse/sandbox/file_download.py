"""Downloads from sandboxes, with Content-Length, ranges and a validator (RFC 9110, 8.8, 13 and 14)."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from portico.client import PorticoError
from portico.client.sandboxes.file_reader import FileReader
from portico.client.sandboxes.sandboxes import Sandboxes
from portico.gateways.http.request.body import Disconnected, cancel_on_disconnect, wait_disconnect
from portico.gateways.http.server.batched_protocol import abort_connection
from portico.gateways.sse.errors import error_response

# The file comes from untrusted code: a browser must not run it in this site's origin, and shared caches must
# not store it.
_HARMLESS: Final = {
    "cache-control": "private, no-cache",
    "content-disposition": "attachment",
    "content-security-policy": "sandbox",
    "x-content-type-options": "nosniff",
}
_RANGE: Final = re.compile(r"bytes=(?:([0-9]{1,18})-([0-9]{0,18})|-([0-9]{1,18}))", re.ASCII)
_TAG: Final = re.compile(r"[0-9a-f-]{1,100}")


@dataclass(frozen=True, slots=True)
class Part:
    """The requested bytes of a file: `length` bytes from `offset`, where 0 means to the end, or the last
    `last_bytes`.
    """

    offset: int = 0
    length: int = 0
    last_bytes: int | None = None


def asked_part(headers: Mapping[str, str]) -> Part | None:
    """Returns the range of a request; None (the whole file) without a range, for several ranges or an invalid
    one.
    """
    found = _RANGE.fullmatch(headers.get("range", "").strip())
    if found is None:
        return None
    if found[3] is not None:
        return Part(last_bytes=int(found[3]))
    first, last = int(found[1]), found[2]
    if not last:
        return Part(first)
    return Part(first, int(last) - first + 1) if int(last) >= first else None


async def download(
    request: Request, sandboxes: Sandboxes, sandbox_id: str, path: str, given: Part
) -> Response:
    """Answers GET and HEAD. A part selected by the query is a representation of its own, without ranges or
    ETag.

    Raises PorticoError, Disconnected.
    """
    headers = request.headers
    part = asked_part(headers) if request.method == "GET" and given == Part() else None

    async def opened(part: Part) -> FileReader:
        # The core has no range of 0 last bytes; a request for 1 byte returns the file's size too.
        last = 0 if part.last_bytes is None else max(part.last_bytes, 1)
        work = sandboxes.open_file(sandbox_id, path, offset=part.offset, length=part.length, last_bytes=last)
        return await cancel_on_disconnect(request.receive, work)

    reader = await opened(part or given)
    try:
        version = reader.file.version if given == Part() else ""
        tag = f'"{version}"' if _TAG.fullmatch(version) else ""
        about = {**_HARMLESS, "etag": tag} if tag else dict(_HARMLESS)
        if tag and tag in _tags(headers.get("if-none-match", "")):
            await reader.close()
            return Response(None, 304, about)
        if part is not None and "if-range" in headers and headers["if-range"] != tag:
            await reader.close()
            part, reader = None, await opened(Part())
        if given == Part():
            about["accept-ranges"] = "bytes"
        size = reader.file.size_bytes
        if part is None:
            return FileResponse(reader, 200, about)
        if reader.offset >= size or part.last_bytes == 0:
            await reader.close()
            about = {"content-range": f"bytes */{size}", "accept-ranges": "bytes"}
            words = f"the file has {size} bytes"
            return error_response(416, "RANGE_NOT_SATISFIABLE", words, headers=about)
        about["content-range"] = f"bytes {reader.offset}-{reader.offset + reader.length - 1}/{size}"
        return FileResponse(reader, 206, about)
    except BaseException:
        await reader.close()
        raise


def _tags(text: str) -> list[str]:
    """Returns the tags of If-None-Match without their W/ prefix: the comparison is weak."""
    return [tag.strip().removeprefix("W/") for tag in text.split(",")]


class FileResponse(Response):
    """Sends a file while reading it. When reading fails, the connection is closed with the answer
    incomplete.
    """

    media_type = "application/octet-stream"

    def __init__(self, reader: FileReader, status: int, headers: Mapping[str, str]) -> None:
        super().__init__(None, status, headers)
        self._reader = reader
        self.headers["content-length"] = str(reader.length)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await send(
                {"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers}
            )
            if scope["method"] != "HEAD":
                await cancel_on_disconnect(receive, self._pieces(send))
            await send({"type": "http.response.body", "body": b"", "more_body": False})
        except PorticoError:
            abort_connection(scope)
            await wait_disconnect(receive)
        except Disconnected:
            pass
        finally:
            await self._reader.close()

    async def _pieces(self, send: Send) -> None:
        async for piece in self._reader:
            await send({"type": "http.response.body", "body": piece, "more_body": True})
