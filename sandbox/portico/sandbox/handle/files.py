"""File operations on a sandbox. Paths are relative to /workspace, or absolute below it, /tmp or a mount."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterable, AsyncIterator, Sequence
from contextlib import aclosing
from dataclasses import replace
from typing import Final, Self

from portico.sandbox import errors
from portico.sandbox.events import Change, Entry, Found
from portico.sandbox.handle.call import Call, CallMaker
from portico.sandbox.handle.deadlines import Deadline
from portico.sandbox.handle.replies import MalformedReply, Reply, parse
from portico.sandbox.inside import wire

_ARCHIVE_SECONDS: Final = 120.0  # to pack or unpack a directory
_WORK_BYTES: Final = 16 << 20  # of a helper process's output, and of a whole answer
_PROBLEM_BYTES: Final = 64 << 10  # of a helper process's standard error
_FOUND: Final = 10_000
ENTRIES: Final = 20_000  # of one page of a directory
_ALL_ENTRIES: Final = 100_000
_VERSION: Final = 100  # characters
_KINDS: Final = ("file", "directory", "link", "other")
_CHANGES: Final = ("ready", "created", "modified", "removed", "overflow")


class Reading:
    """A range of an open file: bytes `offset` to `offset + length` of `entry`. Can be iterated once."""

    def __init__(
        self, call: Call, frames: AsyncIterator[tuple[int, bytes]], entry: Entry, offset: int, length: int
    ) -> None:
        self._call = call
        self._frames = frames
        self.entry = entry
        self.offset = offset
        self.length = length

    async def __aiter__(self) -> AsyncGenerator[bytes, None]:
        """Yields the bytes. Raises OperationFailed if the file was truncated meanwhile."""
        left = self.length
        async for kind, payload in self._frames:
            if kind == wire.OUT:
                left -= len(payload)
                if left < 0:
                    raise self._call.broken("more of a file than was requested")
                yield payload
        await self._call.answer()
        if left:
            raise errors.OperationFailed("the file was truncated while it was read")

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        if not self._call.ended:
            await self._call.abort(0)


class Files:
    """File operations. Every method can raise InvalidPath for a path that leads outside (also through links),
    EntryNotFound, LimitExceeded when disk space or inodes are used up, and SandboxTimeout after
    `call_seconds` of the limits; for a transfer of content, after `call_seconds` without progress."""

    def __init__(self, box: CallMaker) -> None:
        self._box = box

    async def download(
        self, path: str, offset: int = 0, length: int | None = None
    ) -> AsyncGenerator[bytes, None]:
        """Yields the content in pieces; at most one MiB is in flight."""
        async with await self.open(path, offset, length) as reading:
            async for piece in reading:
                yield piece

    async def open(
        self, path: str, offset: int = 0, length: int | None = None, last: int | None = None
    ) -> Reading:
        """Opens a range of a file for reading; the caller closes it.

        Args:
            path: The file.
            offset: First byte.
            length: Most bytes; None up to the end.
            last: Read only the last so many bytes, instead of from an offset.
        """
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
            raise call.broken("no file was opened")
        except BaseException:
            if not call.ended:
                await call.abort(0)
            raise

    async def read(self, path: str, limit: int = 64 << 20) -> bytes:
        """Returns the whole content. Raises LimitExceeded("output") for a file longer than `limit` bytes."""
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
        """Writes a file from pieces and returns its size in bytes. The old content stays until the last piece
        has arrived.

        Args:
            path: The file.
            pieces: The content.
            append: Append to an existing file.
            exclusive: Raise EntryExists if the file exists.
            parents: Create missing parent directories.
        """
        call = self._patient(
            self._box.call("file.write", path=path, append=append, exclusive=exclusive, parents=parents)
        )
        try:
            async for piece in pieces:
                if call.ended:
                    break  # the call failed; its answer says why
                if piece:
                    await call.send(piece)
            call.end_input()
            return (await call.answer()).number("size")
        finally:
            if not call.ended:
                await call.abort(0)

    async def write(self, path: str, content: bytes | str, **options: bool) -> int:
        """Writes a text (as UTF-8) or bytes, and returns the size in bytes; options as in `upload`."""
        data = content.encode() if isinstance(content, str) else content

        async def once() -> AsyncGenerator[bytes, None]:
            yield data

        return await self.upload(path, once(), **options)

    async def stat(self, path: str) -> Entry:
        """Returns the attributes of an entry; links are followed."""
        told = await self._box.request("file.stat", path=path)
        return replace(_entry(told.inner("entry")), version=told.text("version", _VERSION))

    async def exists(self, path: str) -> bool:
        """Whether an entry exists."""
        try:
            await self.stat(path)
        except errors.EntryNotFound:
            return False
        return True

    async def list_directory(self, path: str = ".", depth: int = 1) -> list[Entry]:
        """Returns entries sorted by name, each directory before its content. Raises LimitExceeded("output")
        for more than 100,000; `list_page` has no such limit."""
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
        """Returns one page of a listing, and the `after` of the next page, empty on the last page.

        A page may miss or contain entries that were made or removed meanwhile.

        Args:
            path: The directory.
            depth: Levels of subdirectories to list.
            count: Most entries of the page; fewer are returned if their paths are long.
            after: What the previous page returned.
        """
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
                    raise call.broken("a page without a valid next position")
                return entries, place
        return entries, ""

    async def make_directory(self, path: str, parents: bool = True) -> None:
        """Creates a directory. Raises EntryExists; with `parents` only if the path is not a directory."""
        await self._box.request("file.mkdir", path=path, parents=parents)

    async def move(self, source: str, destination: str, overwrite: bool = False) -> None:
        """Renames an entry. Raises EntryExists unless `overwrite` is set."""
        await self._box.request("file.move", source=source, destination=destination, overwrite=overwrite)

    async def remove(self, path: str, recursive: bool = False) -> None:
        """Removes an entry; a non-empty directory only with `recursive`."""
        await self._work(self._box.call("file.remove", path=path, recursive=recursive))

    async def search(
        self, path: str = ".", pattern: str = "*", *, text: str | None = None, exclude: Sequence[str] = ()
    ) -> list[Found]:
        """Finds entries below a directory whose name or path matches the pattern and, if `text` is given,
        whose content contains it. Raises LimitExceeded("output") for more than 10,000 matches, or 8 MiB.
        """
        call = self._box.call("file.search", path=path, pattern=pattern, text=text, exclude=list(exclude))
        return [_found(told) async for told in self._lines(call, _FOUND)]

    async def edit(self, path: str, edits: Sequence[tuple[str, str]], dry_run: bool = False) -> str:
        """Replaces the first occurrence of each old text and returns a diff. Raises EditMismatch, and
        LimitExceeded("output") for a diff of more than 2 MiB; in both cases nothing is written.
        """
        told = [{"old": old, "new": new} for old, new in edits]
        call = self._box.call("file.edit", path=path, edits=told, dry_run=dry_run)
        return (await self._work(call)).decode(errors="replace")

    async def watch(self, path: str = ".", recursive: bool = False) -> AsyncGenerator[Change, None]:
        """Yields changes below a directory; the first event is `ready`. Ends when the iterator is closed.

        A slow reader loses changes: then one `overflow` follows, and the caller has to list the directory to
        find them.
        """
        call = self._box.call("file.watch", path=path, recursive=recursive)
        try:
            async for _, payload in call.frames():
                told = call.read(payload)
                if told.text("type") not in _CHANGES:
                    raise call.broken("a change of an unknown type")
                yield Change(told.text("type"), told.path("path"), told.flag("directory"))
            await call.answer()
        finally:
            if not call.ended:
                await call.abort(0)

    async def pack(
        self, path: str = ".", *, still: bool = False, timeout: float = _ARCHIVE_SECONDS
    ) -> AsyncGenerator[bytes, None]:
        """Yields a directory as a tar stream with sparse files kept sparse; mounts are left out. With
        `still`, no process inside runs meanwhile. `timeout` is in seconds. Raises SandboxTimeout."""
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
        """Extracts a tar stream, compressed or not, below a directory.

        Args:
            pieces: The tar stream.
            path: The directory.
            clear: Empty the directory first, except for mounts.
            exact: Accept links that lead outside the directory; otherwise they are refused. Links are never
                followed.
            still: No other process inside runs meanwhile.
            timeout: Seconds.

        Raises:
            SandboxTimeout.
        """
        call = self._box.call("file.unpack", path=path, clear=clear, exact=exact, still=still)
        try:
            async with asyncio.timeout(timeout):
                async for piece in pieces:
                    if call.ended:
                        break  # the call failed, and its answer says why
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
        """Applies the timeout to each single wait for the supervisor, not to the whole transfer."""
        call.patience = self._box.spec.limits.call_seconds
        return call

    async def _work(self, call: Call) -> bytes:
        """Collects the output of a helper process, within the timeout of a call."""
        deadline = Deadline(call, self._box.spec.limits.call_seconds, grace=0)
        try:
            return await self._collect(call)
        finally:
            deadline.stop()

    async def _lines(self, call: Call, most: int) -> AsyncGenerator[Reply, None]:
        """Yields the output of a helper process line by line; other tasks run in between."""
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
                    raise call.broken("more lines than a helper process writes")
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
                    raise call.broken("more output than a helper process writes")
        finally:
            if not call.ended:
                await call.abort(0)
        _check(call, bytes(problem))
        return bytes(out)


def _check(call: Call, problem: bytes) -> None:
    """Raises the error that a failed helper process reported on its standard error."""
    error = call.problem()
    if error is not None:
        raise error
    assert call.result is not None
    code = call.result.exit_code()
    if code == 0:
        return
    raise _told(call, problem) or errors.OperationFailed(f"the helper process exited with {code}")


def _told(call: Call, problem: bytes) -> errors.SandboxError | None:
    """Decodes a reported error. None if it is not decodable: a process that was killed or ran out of memory
    may write anything, or nothing."""
    try:
        return Reply(parse(problem), call.broken).failure()
    except MalformedReply:
        return None


def _entry(told: Reply) -> Entry:
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


def _found(told: Reply) -> Found:
    return Found(told.path("path"), told.number("line", low=1) if told.has("line") else None)
