"""File operations in a sandbox. Paths are relative to /workspace, or absolute below it, /tmp or a mount."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterable, Iterable, Mapping, Sequence

from portico.client.errors import typed_errors
from portico.client.paging import Listing, listing
from portico.client.sandboxes.file_reader import FileReader
from portico.client.service import Service
from portico.v1 import sandbox_pb2

PIECE_BYTES = 256 * 1024

Edits = Mapping[str, str] | Iterable[sandbox_pb2.FileEdit]
Content = bytes | str | Iterable[bytes] | AsyncIterable[bytes]


class SandboxFiles(Service):
    """The methods of Sandboxes for files.

    They raise NotFound, AlreadyExists, and InvalidArgument for a path outside of the permitted
    directories.
    """

    async def open_file(
        self, sandbox_id: str, path: str, *, offset: int = 0, length: int = 0, last_bytes: int = 0
    ) -> FileReader:
        """Opens a file at the offset, in bytes. The reader has its size and version."""
        request = sandbox_pb2.ReadFileRequest(
            sandbox_id=sandbox_id, path=path, offset=offset, length=length, last_bytes=last_bytes
        )
        return await FileReader.open(self._calls, request)

    async def read_file(
        self, sandbox_id: str, path: str, *, offset: int = 0, length: int = 0
    ) -> AsyncGenerator[bytes, None]:
        """Yields a file's bytes in pieces, up to the length if one is given."""
        async with await self.open_file(sandbox_id, path, offset=offset, length=length) as reader:
            async for piece in reader:
                yield piece

    async def write_file(
        self,
        sandbox_id: str,
        path: str,
        content: Content,
        *,
        append: bool = False,
        exclusive: bool = False,
    ) -> int:
        """Writes a file, from bytes or from pieces, and returns its size in bytes.

        The old content stays in place until the write is complete.
        """
        start = sandbox_pb2.WriteFileStart(
            sandbox_id=sandbox_id, path=path, append=append, exclusive=exclusive
        )

        with typed_errors():
            call = self._calls.connection.sandboxes.WriteFile(metadata=self._calls.metadata)
        # Metadata before the end means that the call failed; grpc would lose the status during a write.
        failed = asyncio.ensure_future(call.initial_metadata())
        try:
            with typed_errors():
                await call.write(sandbox_pb2.WriteFileRequest(start=start))
            async for piece in _pieces(content):
                if failed.done() or call.done():
                    break
                with typed_errors():
                    await call.write(sandbox_pb2.WriteFileRequest(data=piece))
            with typed_errors():
                if not call.done():
                    await call.done_writing()
                return (await call).size_bytes
        finally:
            failed.cancel()
            call.cancel()

    async def stat_file(self, sandbox_id: str, path: str) -> sandbox_pb2.FileInfo:
        """Returns the type, size and times of a file or directory."""
        request = sandbox_pb2.StatFileRequest(sandbox_id=sandbox_id, path=path)
        return (await self._calls.unary(self._calls.connection.sandboxes.StatFile, request)).file

    async def list_directory(
        self, sandbox_id: str, path: str = "", *, depth: int = 1
    ) -> tuple[sandbox_pb2.FileInfo, ...]:
        """Lists all entries, each directory before its content."""
        return tuple([info async for info in self.list_entries(sandbox_id, path, depth=depth)])

    def list_entries(
        self, sandbox_id: str, path: str = "", *, depth: int = 1, page_size: int = 0, page_token: str = ""
    ) -> Listing[sandbox_pb2.ListDirectoryResponse, sandbox_pb2.FileInfo]:
        """Lists the entries page by page, with at most 20,000 entries in a page."""
        return listing(
            self._calls,
            lambda: self._calls.connection.sandboxes.ListDirectory,
            sandbox_pb2.ListDirectoryRequest(
                sandbox_id=sandbox_id, path=path, depth=depth, page_size=page_size, page_token=page_token
            ),
            lambda page: page.files,
        )

    async def make_directory(self, sandbox_id: str, path: str) -> None:
        """Creates a directory and its parents; does nothing if it exists."""
        request = sandbox_pb2.MakeDirectoryRequest(sandbox_id=sandbox_id, path=path)
        await self._calls.unary(self._calls.connection.sandboxes.MakeDirectory, request)

    async def move_file(
        self, sandbox_id: str, source: str, destination: str, *, overwrite: bool = False
    ) -> None:
        """Moves or renames a file or directory."""
        request = sandbox_pb2.MoveFileRequest(
            sandbox_id=sandbox_id, source=source, destination=destination, overwrite=overwrite
        )
        await self._calls.unary(self._calls.connection.sandboxes.MoveFile, request)

    async def remove_file(self, sandbox_id: str, path: str, *, recursive: bool = False) -> None:
        """Removes a file, or a directory with its content."""
        request = sandbox_pb2.RemoveFileRequest(sandbox_id=sandbox_id, path=path, recursive=recursive)
        await self._calls.unary(self._calls.connection.sandboxes.RemoveFile, request)

    async def search_files(
        self,
        sandbox_id: str,
        pattern: str = "",
        *,
        path: str = "",
        text: str = "",
        exclude: Sequence[str] = (),
    ) -> tuple[sandbox_pb2.FoundFile, ...]:
        """Finds files by name and by a text that they contain."""
        request = sandbox_pb2.SearchFilesRequest(
            sandbox_id=sandbox_id, path=path, pattern=pattern, text=text, exclude=exclude
        )
        return tuple((await self._calls.unary(self._calls.connection.sandboxes.SearchFiles, request)).files)

    async def edit_file(self, sandbox_id: str, path: str, edits: Edits, *, dry_run: bool = False) -> str:
        """Replaces the first occurrence of each text, in order; returns a diff. Raises FailedPrecondition."""
        request = sandbox_pb2.EditFileRequest(
            sandbox_id=sandbox_id,
            path=path,
            edits=_edits(edits),
            dry_run=dry_run,
        )
        return (await self._calls.unary(self._calls.connection.sandboxes.EditFile, request)).diff

    async def watch_files(
        self, sandbox_id: str, path: str = "", *, recursive: bool = False
    ) -> AsyncGenerator[sandbox_pb2.WatchFilesResponse, None]:
        """Yields changes below a directory; the first event means that no later change is missed."""
        request = sandbox_pb2.WatchFilesRequest(sandbox_id=sandbox_id, path=path, recursive=recursive)
        with typed_errors():
            call = self._calls.connection.sandboxes.WatchFiles(request, metadata=self._calls.metadata)
            try:
                while isinstance(change := await call.read(), sandbox_pb2.WatchFilesResponse):
                    yield change
            finally:
                call.cancel()


def _edits(edits: Edits) -> Iterable[sandbox_pb2.FileEdit]:
    if isinstance(edits, Mapping):
        return [sandbox_pb2.FileEdit(old_text=old, new_text=new) for old, new in edits.items()]
    return edits


async def _pieces(content: Content) -> AsyncGenerator[bytes, None]:
    """Splits the content into pieces that fit into a message."""
    if isinstance(content, str):
        content = content.encode()
    if isinstance(content, bytes | bytearray | memoryview):
        content = (bytes(content),)
    if isinstance(content, AsyncIterable):
        async for piece in content:
            for start in range(0, len(piece), PIECE_BYTES):
                yield piece[start : start + PIECE_BYTES]
        return
    for piece in content:
        for start in range(0, len(piece), PIECE_BYTES):
            yield piece[start : start + PIECE_BYTES]
