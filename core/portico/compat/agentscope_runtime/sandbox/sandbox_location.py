"""The location of a sandbox: in this process, or behind a gateway of Portico."""

from collections.abc import AsyncIterator, Mapping, Sequence
from pathlib import PurePosixPath
from typing import Any, Protocol

import httpx

from portico.sandbox import BaseSandboxAsync
from portico.sandbox.errors import EntryNotFound
from portico.sandbox.events import Entry
from portico.sandbox.spec import Spec

CALL_SECONDS = 3700.0  # longer than the longest call


class SandboxLocation(Protocol):
    """Access to one sandbox. Paths are relative to its workspace."""

    async def open(self) -> str:
        """Starts the sandbox; returns its id."""
        ...

    async def close(self) -> None: ...
    async def info(self) -> dict[str, Any]: ...
    async def tools(self) -> dict[str, Any]: ...
    async def call(self, name: str, arguments: Mapping[str, Any]) -> Any: ...
    def read(self, path: str) -> AsyncIterator[bytes]: ...
    async def write(self, path: str, pieces: AsyncIterator[bytes]) -> int:
        """Writes a file; returns the number of bytes."""
        ...

    async def list(self, path: str, depth: int) -> Sequence[dict[str, Any]]: ...
    async def stat(self, path: str) -> dict[str, Any] | None:
        """Returns the entry of a path; None when there is none."""
        ...

    async def remove(self, path: str) -> None: ...
    async def move(self, source: str, destination: str) -> None: ...
    async def make_directory(self, path: str) -> None: ...


class LocalSandboxes:
    """A sandbox of this process, which ends with the process."""

    def __init__(self, kind: str) -> None:
        self._sandbox = BaseSandboxAsync(Spec(type=kind))

    async def open(self) -> str:
        await self._sandbox.start()
        return self._sandbox.sandbox_id

    async def close(self) -> None:
        await self._sandbox.close()

    async def info(self) -> dict[str, Any]:
        return await self._sandbox.get_info()

    async def tools(self) -> dict[str, Any]:
        return await self._sandbox.list_tools()

    async def call(self, name: str, arguments: Mapping[str, Any]) -> Any:
        return await self._sandbox.call_tool(name, dict(arguments))

    def read(self, path: str) -> AsyncIterator[bytes]:
        return self._sandbox.box.files.download(path)

    async def write(self, path: str, pieces: AsyncIterator[bytes]) -> int:
        return await self._sandbox.box.files.upload(path, pieces)

    async def list(self, path: str, depth: int) -> Sequence[dict[str, Any]]:
        return [_of(one) for one in await self._sandbox.box.files.list_directory(path, depth)]

    async def stat(self, path: str) -> dict[str, Any] | None:
        try:
            return _of(await self._sandbox.box.files.stat(path))
        except EntryNotFound:
            return None

    async def remove(self, path: str) -> None:
        await self._sandbox.box.files.remove(path, recursive=True)

    async def move(self, source: str, destination: str) -> None:
        await self._sandbox.box.files.move(source, destination)

    async def make_directory(self, path: str) -> None:
        await self._sandbox.box.files.make_directory(path)


_TYPES = {"directory": "dir", "link": "symlink"}


def _entry(path: str, type: str, size: int, modified: float) -> dict[str, Any]:
    """Returns a file as the reference describes it."""
    return {
        "path": path,
        "name": PurePosixPath(path).name,
        "type": _TYPES.get(type, type),
        "size": size if type == "file" else None,
        "mtime_ms": int(modified * 1000),
    }


def _of(entry: Entry) -> dict[str, Any]:
    return _entry(entry.path, entry.type, entry.size, entry.modified)


def _told(file: Mapping[str, Any]) -> dict[str, Any]:
    return _entry(file["path"], file["type"], file["size_bytes"], file["modified_at"])


class RemoteError(RuntimeError):
    """The gateway refused the request; the message contains its text."""

    def __init__(self, what: str, answer: httpx.Response) -> None:
        super().__init__(f"{what}: {answer.status_code} {answer.text}")
        self.status = answer.status_code


class RemoteSandboxes:
    """A sandbox behind Portico's SSE gateway. Without an id it is created, and removed on close."""

    def __init__(self, kind: str, base_url: str, bearer_token: str | None, sandbox_id: str | None) -> None:
        self._kind = kind
        self._id = sandbox_id
        self._ours = sandbox_id is None
        headers = {"authorization": f"Bearer {bearer_token}"} if bearer_token else {}
        self._options: dict[str, Any] = {"base_url": base_url, "headers": headers, "timeout": CALL_SECONDS}
        self._http: httpx.AsyncClient | None = None

    async def open(self) -> str:
        self._http = httpx.AsyncClient(**self._options)
        try:
            if self._id is None:
                body = {"spec": {"type": self._kind}, "fresh": True}
                self._id = str((await self._ask("POST", "/sandboxes", json=body)).json()["sandbox_id"])
            else:
                await self.info()
        except BaseException:
            await self._http.aclose()
            raise
        return self._id

    async def close(self) -> None:
        if self._http is None:
            return
        try:
            if self._ours:
                await self._ask("DELETE", self._at())
        finally:
            await self._http.aclose()
            self._http = None

    async def _ask(self, method: str, path: str, **options: Any) -> httpx.Response:
        """Sends a request. Raises RemoteError."""
        assert self._http is not None
        answer = await self._http.request(method, path, **options)
        if answer.is_error:
            raise RemoteError(f"{method} {path}", answer)
        return answer

    def _at(self, path: str = "") -> str:
        return f"/sandboxes/{self._id}{path}"

    async def info(self) -> dict[str, Any]:
        told: dict[str, Any] = (await self._ask("GET", self._at())).json()
        return told

    async def tools(self) -> dict[str, Any]:
        groups: dict[str, Any] = {}
        for tool in (await self._ask("GET", self._at("/tools"))).json()["tools"]:
            function = {name: tool[name] for name in ("name", "description", "parameters")}
            schema = {"type": "function", "function": function}
            groups.setdefault(tool["group"], {})[tool["name"]] = {"name": tool["name"], "json_schema": schema}
        return groups

    async def call(self, name: str, arguments: Mapping[str, Any]) -> Any:
        return (await self._ask("POST", self._at(f"/tools/{name}"), json=dict(arguments))).json()

    async def read(self, path: str) -> AsyncIterator[bytes]:
        assert self._http is not None
        at = self._at("/files/content")
        async with self._http.stream("GET", at, params={"path": path}) as answer:
            if answer.is_error:
                await answer.aread()
                raise RemoteError(f"GET {path}", answer)
            async for piece in answer.aiter_bytes():
                yield piece

    async def write(self, path: str, pieces: AsyncIterator[bytes]) -> int:
        answer = await self._ask("PUT", self._at("/files/content"), params={"path": path}, content=pieces)
        return int(answer.json()["size_bytes"])

    async def list(self, path: str, depth: int) -> Sequence[dict[str, Any]]:
        answer = await self._ask("GET", self._at("/files"), params={"path": path, "depth": depth})
        return [_told(file) for file in answer.json()["files"]]

    async def stat(self, path: str) -> dict[str, Any] | None:
        try:
            answer = await self._ask("GET", self._at("/files/info"), params={"path": path})
        except RemoteError as error:
            if error.status == 404:
                return None
            raise
        return _told(answer.json())

    async def remove(self, path: str) -> None:
        await self._ask("DELETE", self._at("/files"), params={"path": path, "recursive": True})

    async def move(self, source: str, destination: str) -> None:
        body = {"source": source, "destination": destination}
        await self._ask("POST", self._at("/files/move"), json=body)

    async def make_directory(self, path: str) -> None:
        await self._ask("POST", self._at("/files/directories"), json={"path": path})
