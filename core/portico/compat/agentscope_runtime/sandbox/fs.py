"""`sandbox.fs`: the files of a sandbox's workspace."""

from collections.abc import AsyncGenerator, AsyncIterator, Coroutine, Iterator, Mapping, Sequence
from pathlib import Path
from typing import IO, Any, Literal, Protocol, TypeVar

from portico.compat.agentscope_runtime.sandbox.sandbox_location import SandboxLocation

Format = Literal["text", "bytes", "stream"]
Data = str | bytes | bytearray | IO[bytes]
BYTES = "application/octet-stream"
CHUNK = 1 << 20
T = TypeVar("T")


class WaitingSandbox(Protocol):
    """A sandbox for synchronous callers, as far as its files need it."""

    place: SandboxLocation

    def wait(self, work: Coroutine[Any, Any, T]) -> T:
        """Returns the result of an asynchronous call on the sandbox's thread."""
        ...


async def _pieces(data: Data) -> AsyncGenerator[bytes, None]:
    if isinstance(data, str):
        yield data.encode()
    elif isinstance(data, bytes | bytearray):
        yield bytes(data)
    else:
        while piece := data.read(CHUNK):
            yield piece


class SandboxFSAsync:
    """File operations. Paths are below /workspace, or absolute. `content_type` has no effect."""

    def __init__(self, sandbox: Any) -> None:
        self._sandbox = sandbox

    @property
    def _place(self) -> SandboxLocation:
        place: SandboxLocation = self._sandbox.place
        return place

    async def read_async(self, path: str, fmt: Format = "text") -> str | bytes | AsyncIterator[bytes]:
        stream = self._place.read(path)
        if fmt == "stream":
            return stream
        content = b"".join([piece async for piece in stream])
        return content.decode() if fmt == "text" else content

    async def write_async(self, path: str, data: Data, *, content_type: str = BYTES) -> dict[str, Any]:
        """Writes a file; returns its entry."""
        await self._place.write(path, _pieces(data))
        return await self._place.stat(path) or {}

    async def write_many_async(self, files: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
        """Writes several files; each is {"path", "data"}."""
        return [await self.write_async(file["path"], file["data"]) for file in files]

    async def list_async(self, path: str, depth: int | None = 1) -> list[dict[str, Any]]:
        """Lists a directory, by default with all entries up to 64 levels deep."""
        return list(await self._place.list(path, depth or 64))

    async def exists_async(self, path: str) -> bool:
        return await self._place.stat(path) is not None

    async def remove_async(self, path: str) -> None:
        """Removes a file, or a directory with its content."""
        await self._place.remove(path)

    async def move_async(self, source: str, destination: str) -> dict[str, Any]:
        await self._place.move(source, destination)
        return await self._place.stat(destination) or {}

    async def mkdir_async(self, path: str) -> bool:
        await self._place.make_directory(path)
        return True

    async def write_from_path_async(
        self, workspace_path: str, local_path: str, *, content_type: str = BYTES
    ) -> dict[str, Any]:
        """Copies a file of this machine into the sandbox."""
        with Path(local_path).open("rb") as file:  # noqa: ASYNC230 - a local file, in pieces
            return await self.write_async(workspace_path, file)


class SandboxFS:
    """The sync form of SandboxFSAsync."""

    def __init__(self, sandbox: WaitingSandbox) -> None:
        self._sandbox = sandbox
        self._fs = SandboxFSAsync(sandbox)

    def read(
        self, path: str, fmt: Format = "text", *, chunk_size: int = CHUNK
    ) -> str | bytes | Iterator[bytes]:
        """Reads a file. The chunks of a stream have the sizes in which they arrive, at most 1 MiB."""
        if fmt == "stream":
            return self._stream(path)
        content: str | bytes = self._sandbox.wait(self._fs.read_async(path, fmt))  # type: ignore[assignment]
        return content

    def _stream(self, path: str) -> Iterator[bytes]:
        pieces = self._sandbox.place.read(path)

        async def more() -> bytes:
            return await anext(pieces, b"")

        while piece := self._sandbox.wait(more()):
            yield piece

    def write(self, path: str, data: Data, *, content_type: str = BYTES) -> dict[str, Any]:
        return self._sandbox.wait(self._fs.write_async(path, data))

    def write_many(self, files: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
        return self._sandbox.wait(self._fs.write_many_async(files))

    def list(self, path: str, depth: int | None = 1) -> "list[dict[str, Any]]":
        return self._sandbox.wait(self._fs.list_async(path, depth))

    def exists(self, path: str) -> bool:
        return self._sandbox.wait(self._fs.exists_async(path))

    def remove(self, path: str) -> None:
        self._sandbox.wait(self._fs.remove_async(path))

    def move(self, source: str, destination: str) -> dict[str, Any]:
        return self._sandbox.wait(self._fs.move_async(source, destination))

    def mkdir(self, path: str) -> bool:
        return self._sandbox.wait(self._fs.mkdir_async(path))

    def write_from_path(
        self, workspace_path: str, local_path: str, *, content_type: str = BYTES
    ) -> dict[str, Any]:
        return self._sandbox.wait(self._fs.write_from_path_async(workspace_path, local_path))
