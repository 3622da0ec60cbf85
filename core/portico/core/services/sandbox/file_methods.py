"""Methods of SandboxService for files."""

from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing

from grpc.aio import ServicerContext

from portico.core.convert.sandboxes import file_to_proto, found_to_proto
from portico.core.errors import DomainError, InvalidArgument
from portico.core.sandboxes.sandbox_errors import translate_sandbox_errors
from portico.core.services.rpc.dispatch import parse, stop_sending
from portico.core.services.rpc.page_tokens import decode_token, encode_token
from portico.core.services.sandbox.sandbox_methods import SandboxMethods
from portico.sandbox.file_names import from_text, to_text
from portico.sandbox.handle.files import ENTRIES
from portico.v1 import sandbox_pb2 as pb

PATH_BYTES = 4096
EDITS = 1000


class SandboxFiles(SandboxMethods):
    """Reads, writes, lists and watches files in sandboxes."""

    async def ReadFile(
        self, request: pb.ReadFileRequest, context: ServicerContext
    ) -> AsyncIterator[pb.ReadFileResponse]:
        box, path = self._box(request.sandbox_id), _path(request.path)
        for field in ("offset", "length", "last_bytes"):
            if getattr(request, field) < 0:
                raise InvalidArgument(field, "must not be negative")
        if request.last_bytes and (request.offset or request.length):
            raise InvalidArgument("last_bytes", "must not be combined with offset or length")
        with translate_sandbox_errors(sandbox_id=box.id, path=path):
            opening = box.files.open(path, request.offset, request.length or None, request.last_bytes or None)
            async with await opening as reading:
                opened: pb.OpenedFile | None = pb.OpenedFile(
                    file=file_to_proto(reading.entry), offset=reading.offset, length=reading.length
                )
                async for piece in reading:
                    # Sent with the first piece: a separate message would double the cost of a small file.
                    yield pb.ReadFileResponse(data=piece, opened=opened)
                    opened = None
                if opened is not None:
                    yield pb.ReadFileResponse(opened=opened)

    async def WriteFile(
        self, requests: AsyncIterator[bytes], context: ServicerContext
    ) -> AsyncIterator[pb.WriteFileResponse]:
        try:
            first = await anext(requests, None)
            start = None if first is None else parse(pb.WriteFileRequest, first).start
            if start is None or not start.sandbox_id:
                raise InvalidArgument("start", "is required in the first request")
            box, path = self._box(start.sandbox_id), _path(start.path)
            with translate_sandbox_errors(sandbox_id=box.id, path=path):
                size = await box.files.upload(
                    path, _data(requests), append=start.append, exclusive=start.exclusive
                )
        except DomainError:
            await stop_sending(requests, context)
            raise
        yield pb.WriteFileResponse(size_bytes=size)

    async def StatFile(self, request: pb.StatFileRequest, context: ServicerContext) -> pb.StatFileResponse:
        box, path = self._box(request.sandbox_id), _path(request.path)
        with translate_sandbox_errors(sandbox_id=box.id, path=path):
            return pb.StatFileResponse(file=file_to_proto(await box.files.stat(path)))

    async def ListDirectory(
        self, request: pb.ListDirectoryRequest, context: ServicerContext
    ) -> pb.ListDirectoryResponse:
        box, path = self._box(request.sandbox_id), _path(request.path or ".")
        if not 0 <= request.depth <= 64:
            raise InvalidArgument("depth", "must be between 0 and 64")
        if request.page_size < 0:
            raise InvalidArgument("page_size", "must not be negative")
        place = decode_token(request.page_token, str) or ("",)
        after, count = from_text(str(place[0])), min(request.page_size or ENTRIES, ENTRIES)
        with translate_sandbox_errors(sandbox_id=box.id, path=path):
            entries, last = await box.files.list_page(path, request.depth or 1, count=count, after=after)
        return pb.ListDirectoryResponse(
            files=[file_to_proto(entry) for entry in entries],
            next_page_token=encode_token(to_text(last)) if last else "",
        )

    async def MakeDirectory(
        self, request: pb.MakeDirectoryRequest, context: ServicerContext
    ) -> pb.MakeDirectoryResponse:
        box, path = self._box(request.sandbox_id), _path(request.path)
        with translate_sandbox_errors(sandbox_id=box.id, path=path):
            await box.files.make_directory(path)
        return pb.MakeDirectoryResponse()

    async def MoveFile(self, request: pb.MoveFileRequest, context: ServicerContext) -> pb.MoveFileResponse:
        box = self._box(request.sandbox_id)
        source, destination = _path(request.source, "source"), _path(request.destination, "destination")
        with translate_sandbox_errors(sandbox_id=box.id, path=source):
            await box.files.move(source, destination, request.overwrite)
        return pb.MoveFileResponse()

    async def RemoveFile(
        self, request: pb.RemoveFileRequest, context: ServicerContext
    ) -> pb.RemoveFileResponse:
        box, path = self._box(request.sandbox_id), _path(request.path)
        with translate_sandbox_errors(sandbox_id=box.id, path=path):
            await box.files.remove(path, request.recursive)
        return pb.RemoveFileResponse()

    async def SearchFiles(
        self, request: pb.SearchFilesRequest, context: ServicerContext
    ) -> pb.SearchFilesResponse:
        box, path = self._box(request.sandbox_id), _path(request.path or ".")
        with translate_sandbox_errors(sandbox_id=box.id, path=path):
            found = await box.files.search(
                path,
                from_text(request.pattern) or "*",
                text=request.text or None,
                exclude=[from_text(pattern) for pattern in request.exclude],
            )
        return pb.SearchFilesResponse(files=[found_to_proto(one) for one in found])

    async def EditFile(self, request: pb.EditFileRequest, context: ServicerContext) -> pb.EditFileResponse:
        box, path = self._box(request.sandbox_id), _path(request.path)
        if not 0 < len(request.edits) <= EDITS:
            raise InvalidArgument("edits", f"must have between 1 and {EDITS} items")
        edits = []
        for index, edit in enumerate(request.edits):
            if not edit.old_text:
                raise InvalidArgument(f"edits[{index}].old_text", "is required")
            edits.append((edit.old_text, edit.new_text))
        with translate_sandbox_errors(sandbox_id=box.id, path=path):
            diff = await box.files.edit(path, edits, request.dry_run)
        return pb.EditFileResponse(diff=diff)

    async def WatchFiles(
        self, request: pb.WatchFilesRequest, context: ServicerContext
    ) -> AsyncIterator[pb.WatchFilesResponse]:
        box, path = self._box(request.sandbox_id), _path(request.path or ".")
        with translate_sandbox_errors(sandbox_id=box.id, path=path):
            async with aclosing(box.files.watch(path, request.recursive)) as changes:
                async for change in changes:
                    yield pb.WatchFilesResponse(
                        type=change.type, path=to_text(change.path), directory=change.directory
                    )


async def _data(requests: AsyncIterator[bytes]) -> AsyncGenerator[bytes, None]:
    async for data in requests:
        yield parse(pb.WriteFileRequest, data).data


def _path(path: str, field: str = "path") -> str:
    """Decodes a path. Raises InvalidArgument for an impossible one."""
    if not path:
        raise InvalidArgument(field, "is required")
    if len(path.encode()) > PATH_BYTES or "\0" in path:
        raise InvalidArgument(field, f"must have no NUL character and at most {PATH_BYTES} bytes")
    return from_text(path)
