"""REST routes for the files of a sandbox. Contents of any size are streamed in pieces."""

from collections.abc import AsyncGenerator, Sequence
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Query, Request
from starlette.responses import Response, StreamingResponse

from portico.gateways.http.request.body import Disconnected
from portico.gateways.sse.json_routes import BODY, CoreDep, Given, PageToken, answer, checked, takes
from portico.gateways.sse.sandbox import sandbox_schemas as models
from portico.gateways.sse.sandbox.event_streams import stream
from portico.gateways.sse.sandbox.file_download import Part, download
from portico.gateways.sse.sandbox.sandbox_encoding import file_json
from portico.gateways.sse.sandbox.sandbox_routes import failures
from portico.v1 import sandbox_pb2 as pb

routes = APIRouter(prefix="/sandboxes/{sandbox_id}/files", tags=["sandboxes"])

PathQuery = Annotated[str, Query(description="A path relative to /workspace, or an absolute one.")]
_BYTES: dict[str, Any] = {"application/octet-stream": {"schema": {"type": "string", "format": "binary"}}}


@routes.get("", responses={200: {"model": models.FileList}, **failures()})
async def list_directory(
    sandbox_id: str,
    request: Request,
    core: CoreDep,
    path: PathQuery = "",
    depth: Annotated[int, Query(ge=1, le=64, description="The number of levels.")] = 1,
    page_size: Annotated[int, Query(ge=0, le=20_000, description="The most entries; 0 means 20,000.")] = 0,
    page_token: PageToken = "",
) -> Response:
    """Lists the entries of a directory, each directory before its content; at most 20,000 on a page."""
    page = await (
        core.client_for(request)
        .sandboxes.list_entries(sandbox_id, path, depth=depth, page_size=page_size, page_token=page_token)
        .page()
    )
    return answer(
        {"files": [file_json(info) for info in page.files], "next_page_token": page.next_page_token}
    )


Offset = Annotated[int, Query(ge=0, lt=2**63)]
Length = Annotated[int, Query(ge=0, lt=2**63, description="Bytes; to the end of the file if omitted.")]


@routes.get(
    "/content",
    response_class=StreamingResponse,
    responses={200: {"content": _BYTES}, 206: {"content": _BYTES}, 304: {}, **failures(416)},
)
async def read_file(
    sandbox_id: str, path: PathQuery, request: Request, core: CoreDep, offset: Offset = 0, length: Length = 0
) -> Response:
    """Returns a file's content. Without offset and length it supports Range and If-Range, and usually has an
    ETag.
    """
    return await download(request, core.client_for(request).sandboxes, sandbox_id, path, Part(offset, length))


@routes.head("/content", responses={200: {"content": _BYTES}, 304: {}, **failures()})
async def file_head(
    sandbox_id: str, path: PathQuery, request: Request, core: CoreDep, offset: Offset = 0, length: Length = 0
) -> Response:
    """Returns the headers that GET would return."""
    return await download(request, core.client_for(request).sandboxes, sandbox_id, path, Part(offset, length))


@routes.put(
    "/content",
    responses={200: {"model": models.Written}, **failures(*BODY)},
    openapi_extra={"requestBody": {"required": True, "content": _BYTES}},
)
async def write_file(
    sandbox_id: str,
    path: PathQuery,
    request: Request,
    core: CoreDep,
    mode: Annotated[Literal["replace", "append", "create"], Query()] = "replace",
) -> Response:
    """Writes a file from the body, of any type and size. The old content stays until the body is complete."""

    async def pieces() -> AsyncGenerator[bytes, None]:
        while True:
            message = await request.receive()
            if message["type"] == "http.disconnect":
                raise Disconnected
            yield message.get("body", b"")
            if not message.get("more_body"):
                return

    size = await core.client_for(request).sandboxes.write_file(
        sandbox_id, path, pieces(), append=mode == "append", exclusive=mode == "create"
    )
    return answer({"size_bytes": size})


@routes.get("/info", responses={200: {"model": models.FileModel}, **failures()})
async def stat_file(sandbox_id: str, path: PathQuery, request: Request, core: CoreDep) -> Response:
    """Describes a file or directory."""
    return answer(file_json(await core.client_for(request).sandboxes.stat_file(sandbox_id, path)))


@routes.delete("", status_code=204, responses=failures())
async def remove_file(
    sandbox_id: str, path: PathQuery, request: Request, core: CoreDep, recursive: bool = False
) -> Response:
    """Deletes a file, or a directory with all its content."""
    await core.client_for(request).sandboxes.remove_file(sandbox_id, path, recursive=recursive)
    return Response(status_code=204)


@routes.post("/directories", status_code=204, responses=failures(*BODY), openapi_extra=takes("PathModel"))
async def make_directory(sandbox_id: str, given: Given, request: Request, core: CoreDep) -> Response:
    """Creates a directory and its missing parents."""
    await core.client_for(request).sandboxes.make_directory(sandbox_id, checked(models.PathModel, given).path)
    return Response(status_code=204)


@routes.post("/move", status_code=204, responses=failures(*BODY), openapi_extra=takes("MoveFile"))
async def move_file(sandbox_id: str, given: Given, request: Request, core: CoreDep) -> Response:
    """Moves or renames a file or directory."""
    body = checked(models.MoveFile, given)
    await core.client_for(request).sandboxes.move_file(
        sandbox_id, body.source, body.destination, overwrite=body.overwrite
    )
    return Response(status_code=204)


@routes.get("/search", responses={200: {"model": models.FoundList}, **failures()})
async def search_files(
    sandbox_id: str,
    request: Request,
    core: CoreDep,
    pattern: str = "",
    path: PathQuery = "",
    text: Annotated[str, Query(description="A text that the file must contain.")] = "",
    exclude: Annotated[Sequence[str], Query()] = (),
) -> Response:
    """Searches files by name and content."""
    found = await core.client_for(request).sandboxes.search_files(
        sandbox_id, pattern, path=path, text=text, exclude=exclude
    )
    return answer({"files": [{"path": one.path, "line": one.line} for one in found]})


@routes.post(
    "/edit",
    responses={200: {"model": models.DiffModel}, **failures(*BODY)},
    openapi_extra=takes("EditFile"),
)
async def edit_file(sandbox_id: str, given: Given, request: Request, core: CoreDep) -> Response:
    """Replaces the first occurrence of each text, in order; returns a diff."""
    body = checked(models.EditFile, given)
    edits = [pb.FileEdit(old_text=edit.old_text, new_text=edit.new_text) for edit in body.edits]
    sandboxes = core.client_for(request).sandboxes
    return answer({"diff": await sandboxes.edit_file(sandbox_id, body.path, edits, dry_run=body.dry_run)})


@routes.get(
    "/changes",
    responses={200: {"content": {"text/event-stream": {}}}, **failures()},
)
async def watch_files(
    sandbox_id: str, request: Request, core: CoreDep, path: PathQuery = "", recursive: bool = False
) -> Response:
    """Streams changes: ready, created, modified, removed, and overflow. After an overflow, changes were lost
    and the directory must be listed again.
    """
    items = core.client_for(request).sandboxes.watch_files(sandbox_id, path, recursive=recursive)
    return await stream(request, items, _change)


def _change(change: pb.WatchFilesResponse) -> list[tuple[str, dict[str, Any]]]:
    return [(change.type, {"path": change.path, "directory": change.directory})]
