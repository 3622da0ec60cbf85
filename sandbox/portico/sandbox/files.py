"""The files of a sandbox, from outside. Paths are relative to /workspace, or absolute below it, /tmp or a
mount.
"""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterable, AsyncIterator, Sequence
from contextlib import aclosing
from dataclasses import replace
from typing import TYPE_CHECKING, Final, Self

from portico.sandbox import errors
from portico.sandbox.answers import Answer, Broken, parse
from portico.sandbox.channel import Call, Deadline
from portico.sandbox.events import Change, Entry, Found
from portico.sandbox.inside import wire

if TYPE_CHECKING:
    from portico.sandbox.box import Box

_ARCHIVE_SECONDS: Final = 120.0  # that a directory may take to be packed or unpacked
_WORK_BYTES: Final = 16 << 20  # of what a worker gives, and of a whole answer
_PROBLEM_BYTES: Final = 64 << 10  # of what a worker says when it fails
_FOUND: Final = 10_000
ENTRIES: Final = 20_000  # of one page of a directory
_ALL_ENTRIES: Final = 100_000
_VERSION: Final = 100  # characters
_KINDS: Final = ("file", "directory", "link", "other")
_CHANGES: Final = ("ready", "created", "modified", "removed", "overflow")


class Reading:
    """A part of an open file: `entry`, `offset` and `length` say which bytes come. Iterate for them once."""

    def __init__(
        self, call: Call, frames: AsyncIterator[tuple[int, bytes]], entry: Entry, offset: int, length: int
    ) -> None:
        self._call = call
        self._frames = frames
        self.entry = entry
        self.offset = offset
        self.length = length

    async def __aiter__(self) -> AsyncGenerator[bytes, None]:
        """Raises OperationFailed when the file has become shorter meanwhile."""
        left = self.length
        async for kind, payload in self._frames:
            if kind == wire.OUT:
                left -= len(payload)
                if left < 0:
                    raise self._call.broken("more of a file than was asked for")
                yield payload
        await self._call.answer()
        if left:
            raise errors.OperationFailed("the file has become shorter while it was read")

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        if not self._call.ended:
            await self._call.abort(0)


class Files:
    """Every method raises InvalidPath for a path that leads out, links included, EntryNotFound,
    LimitExceeded when the disk or its inodes are used up, and SandboxTimeout when it takes longer than any
    call may, or content, when it makes no progress for so long."""

    def __init__(self, box: "Box") -> None:
        self._box = box

    async def download(
        self, path: str, offset: int = 0, length: int | None = None
    ) -> AsyncGenerator[bytes, None]:
        """The content in pieces; at most one MiB is on its way."""
        async with await self.open(path, offset, length) as reading:
            async for piece in reading:
                yield piece

    async def open(
        self, path: str, offset: int = 0, length: int | None = None, last: int | None = None
    ) -> Reading:
        """Opens a file to read a part of it: from an offset, or the last bytes. Close what it returns."""
        call = self._patient(self._box.call("file.read", path=path, offset=offset, length=length, last=last))
        frames = call.frames()
        try:
            async for kind, payload in frames:
                if kind == wire.EVENT:
                    told = call.read(payload)
                    entry = replace(_entry(told.inner("entry")), version=told.text("version", _VERSION))
                    if last is not None:
                        offset = max(entry.size - last, 0)
                    left = max(entry.size - offset, 0)
                    return Reading(call, frames, entry, offset, left if length is None else min(left, length))
            await call.answer()
            raise call.broken("a file that was not opened")
        except BaseException:
            if not call.ended:
                await call.abort(0)
            raise

    async def read(self, path: str, limit: int = 64 << 20) -> bytes:
        """The whole content. Raises LimitExceeded("output") for a file longer than the limit in bytes."""
        content = bytearray()
        async with aclosing(self.download(path)) as pieces:
            async for piece in pieces:
                content += piece
                if len(content) > limit:
                    raise errors.LimitExceeded(f"{path}: longer than {limit} bytes", "output")
        return bytes(content)

    async def upload(
        self,
        path: str,
        pieces: AsyncIterable[bytes],
        *,
        append: bool = False,
        exclusive: bool = False,
        parents: bool = True,
    ) -> int:
        """Writes a file from pieces and gives its size in bytes. Until the last has come, the old content
        stays.
        """
        call = self._patient(
            self._box.call("file.write", path=path, append=append, exclusive=exclusive, parents=parents)
        )
        try:
            async for piece in pieces:
                if call.ended:
                    break  # it failed; the answer says why
                if piece:
                    await call.send(piece)
            call.end_input()
            return (await call.answer()).number("size")
        finally:
            if not call.ended:
                await call.abort(0)

    async def write(self, path: str, content: bytes | str, **options: bool) -> int:
        data = content.encode() if isinstance(content, str) else content

        async def once() -> AsyncGenerator[bytes, None]:
            yield data

        return await self.upload(path, once(), **options)

    async def stat(self, path: str) -> Entry:
        told = await self._box.ask("file.stat", path=path)
        return replace(_entry(told.inner("entry")), version=told.text("version", _VERSION))

    async def exists(self, path: str) -> bool:
        try:
            await self.stat(path)
        except errors.EntryNotFound:
            return False
        return True

    async def list_directory(self, path: str = ".", depth: int = 1) -> list[Entry]:
        """Entries in order of name, each directory before its content. Raises LimitExceeded("output") for
        more than 100,000; `list_page` lists any number."""
        entries, after = await self.list_page(path, depth)
        while after:
            if len(entries) > _ALL_ENTRIES:
                raise errors.LimitExceeded(f"{path}: more than {_ALL_ENTRIES} entries", "output")
            more, after = await self.list_page(path, depth, after=after)
            entries += more
        return entries

    async def list_page(
        self, path: str = ".", depth: int = 1, *, count: int = ENTRIES, after: str = ""
    ) -> tuple[list[Entry], str]:
        """So many entries at most, fewer if their paths are long, and what the next page comes after; empty
        if there is none. A page may miss or contain entries that were made or removed meanwhile."""
        call = self._box.call("file.list", path=path, depth=depth, count=count, after=after)
        entries: list[Entry] = []
        async with aclosing(self._lines(call, ENTRIES + 1)) as lines:
            async for told in lines:
                if not told.flag("more"):
                    entries.append(_entry(told))
                    continue
                last = entries[-1].path if entries else ""
                place = last.removeprefix(f"{path.rstrip('/') or '.'}/")
                if place in ("", last, after):
                    raise call.broken("a page without a next one")
                return entries, place
        return entries, ""

    async def make_directory(self, path: str, parents: bool = True) -> None:
        """Raises EntryExists, with `parents` only for something that is no directory."""
        await self._box.ask("file.mkdir", path=path, parents=parents)

    async def move(self, source: str, destination: str, overwrite: bool = False) -> None:
        """Raises EntryExists."""
        await self._box.ask("file.move", source=source, destination=destination, overwrite=overwrite)

    async def remove(self, path: str, recursive: bool = False) -> None:
        await self._work(self._box.call("file.remove", path=path, recursive=recursive))

    async def search(
        self, path: str = ".", pattern: str = "*", *, text: str | None = None, exclude: Sequence[str] = ()
    ) -> list[Found]:
        """Entries below a directory whose name or path matches the pattern and, with a text, whose content
        has it. Raises LimitExceeded("output") for more than 10,000 of them, or 8 MiB.
        """
        call = self._box.call("file.search", path=path, pattern=pattern, text=text, exclude=list(exclude))
        return [_found(told) async for told in self._lines(call, _FOUND)]

    async def edit(self, path: str, edits: Sequence[tuple[str, str]], dry_run: bool = False) -> str:
        """Replaces the first place of each old text by the new and gives a diff. Raises EditMismatch, and
        LimitExceeded("output") for a diff of more than 2 MiB, before anything is written.
        """
        told = [{"old": old, "new": new} for old, new in edits]
        call = self._box.call("file.edit", path=path, edits=told, dry_run=dry_run)
        return (await self._work(call)).decode(errors="replace")

    async def watch(self, path: str = ".", recursive: bool = False) -> AsyncGenerator[Change, None]:
        """Changes below a directory; the first is `ready`. Ends when the iterator is closed.

        Keeps some changes that are not read in time; then one `overflow` follows: list the directory to find
        the others.
        """
        call = self._box.call("file.watch", path=path, recursive=recursive)
        try:
            async for _, payload in call.frames():
                told = call.read(payload)
                if told.text("type") not in _CHANGES:
                    raise call.broken("a change of no kind")
                yield Change(told.text("type"), told.path("path"), told.flag("directory"))
            await call.answer()
        finally:
            if not call.ended:
                await call.abort(0)

    async def pack(
        self, path: str = ".", *, still: bool = False, timeout: float = _ARCHIVE_SECONDS
    ) -> AsyncGenerator[bytes, None]:
        """A directory as a tar stream, with holes as holes; mounts are left out. With `still` nothing inside
        runs meanwhile. Raises SandboxTimeout."""
        call = self._box.call("file.pack", path=path, still=still)
        expired = Deadline(call, timeout, grace=0)
        try:
            async for kind, payload in call.frames():
                if kind == wire.OUT:
                    yield payload
            if expired.passed:
                raise errors.SandboxTimeout(timeout)
            await call.answer()
        finally:
            expired.stop()
            if not call.ended:
                await call.abort(0)

    async def unpack(
        self,
        pieces: AsyncIterable[bytes],
        path: str = ".",
        clear: bool = False,
        *,
        exact: bool = False,
        still: bool = False,
        timeout: float = _ARCHIVE_SECONDS,
    ) -> None:
        """Puts a tar stream, compressed or not, below a directory; `clear` empties it before, but for mounts.
        Links that lead out of it are refused, unless it is to be `exact`; none is ever followed. With `still`
        nothing else inside runs meanwhile. Raises SandboxTimeout."""
        call = self._box.call("file.unpack", path=path, clear=clear, exact=exact, still=still)
        try:
            async with asyncio.timeout(timeout):
                async for piece in pieces:
                    if call.ended:
                        break  # it failed, and the answer says why
                    if piece:
                        await call.send(piece)
                call.end_input()
                await self._collect(call)
        except TimeoutError:
            raise errors.SandboxTimeout(timeout) from None
        finally:
            if not call.ended:
                await call.abort(0)

    def _patient(self, call: Call) -> Call:
        """With content, not the whole has to be done in time, but each step that the agent is waited for."""
        call.patience = self._box.spec.limits.call_seconds
        return call

    async def _work(self, call: Call) -> bytes:
        """What a worker gives until it has ended, in the time that a call may take."""
        deadline = Deadline(call, self._box.spec.limits.call_seconds, grace=0)
        try:
            return await self._collect(call)
        finally:
            deadline.stop()

    async def _lines(self, call: Call, most: int) -> AsyncGenerator[Answer, None]:
        """What a worker gives line by line. Others have their turn in between."""
        deadline = Deadline(call, self._box.spec.limits.call_seconds, grace=0)
        problem, rest, size, count = bytearray(), b"", 0, 0
        try:
            async for kind, payload in call.frames():
                if kind != wire.OUT:
                    problem += payload[: _PROBLEM_BYTES - len(problem)]
                    continue
                size += len(payload)
                *lines, rest = (rest + payload).split(b"\n")
                count += len(lines)
                if size > _WORK_BYTES or count > most or len(rest) > wire.EVENT_BYTES:
                    raise call.broken("more lines than any work gives")
                for line in lines:
                    yield call.read(line)
                await asyncio.sleep(0)
            _check(call, bytes(problem))
        finally:
            deadline.stop()
            if not call.ended:
                await call.abort(0)

    async def _collect(self, call: Call) -> bytes:
        out, problem = bytearray(), bytearray()
        try:
            async for kind, payload in call.frames():
                if kind == wire.OUT:
                    out += payload
                elif len(problem) < _PROBLEM_BYTES:
                    problem += payload
                if len(out) > _WORK_BYTES:
                    raise call.broken("more than any work gives")
        finally:
            if not call.ended:
                await call.abort(0)
        _check(call, bytes(problem))
        return bytes(out)


def _check(call: Call, problem: bytes) -> None:
    """Raises what a worker told on its standard error when it failed."""
    error = call.problem()
    if error is not None:
        raise error
    assert call.result is not None
    code = call.result.exit_code()
    if code == 0:
        return
    raise _told(call, problem) or errors.OperationFailed(f"the work ended with {code}")


def _told(call: Call, problem: bytes) -> errors.SandboxError | None:
    """A worker that was killed, or ran out of memory, leaves anything, or nothing."""
    try:
        return Answer(parse(problem), call.broken).failure()
    except Broken:
        return None


def _entry(told: Answer) -> Entry:
    kind = told.text("type")
    return Entry(
        told.path("path"),
        kind if kind in _KINDS else "other",
        told.number("size"),
        told.number("mode", high=0o7777),
        told.seconds("modified"),
        told.seconds("accessed"),
        told.seconds("changed"),
    )


def _found(told: Answer) -> Found:
    return Found(told.path("path"), told.number("line", low=1) if told.has("line") else None)
