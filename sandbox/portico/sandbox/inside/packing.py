"""Packs a directory as a tar stream, with sparse files kept sparse: POSIX headers with pax records, and GNU's
sparse format 1.0.

Process 1 does it in short turns of its loop. A separate process could be stopped or killed by the code
inside, which has the same user id; process 1 cannot. It needs no module that process 1 has not loaded
anyway."""

import errno
import os
import stat
import struct
import time
from collections.abc import Generator, Iterator
from typing import Any, Final

from . import paths, wire
from .calls import Call, Failure
from .loop import WRITE, Loop
from .stillness import Stillness

_BLOCK: Final = 512  # bytes
_LONGEST: Final = 4_000  # bytes of a path that a restore can open
_TURN: Final = 0.002  # seconds of work before other calls are served
_ZEROS: Final = bytes(wire.CHUNK)
_LOOKS: Final = 256  # steps without output between two checks of the time
# Errors of an open for an entry that was removed or replaced meanwhile.
_GONE: Final = (errno.ENOENT, errno.ENOTDIR, errno.ELOOP, errno.ENXIO)
_HEADER: Final = struct.Struct("100s8s8s8s12s12s8s1s100s8s32s32s8s8s155s12x")
_FILE, _LINK, _SYMLINK, _FOLDER, _PIPE, _PAX = b"0", b"1", b"2", b"5", b"6", b"x"


class Packer:
    """Serves calls that request a directory."""

    def __init__(self, loop: Loop, stillness: Stillness) -> None:
        self._loop = loop
        self._stillness = stillness

    def start(self, call: Call, request: dict[str, Any]) -> None:
        """Sends a directory. With `still`, no other process in the sandbox runs meanwhile."""
        loop, still = self._loop, bool(request.get("still"))
        top = paths.open_directory(request["path"])
        turn = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)  # always writable
        try:
            if still:
                self._stillness.begin()
        except BaseException:
            os.close(turn)
            os.close(top)
            raise
        pieces = pack(top)

        def close() -> None:
            call.on_credit = call.on_cancel = None
            loop.forget(turn)
            pieces.close()
            os.close(turn)
            os.close(top)
            if still:
                self._stillness.end()

        def cancel(_request: dict[str, Any]) -> None:
            close()
            call.end(error={"kind": "cancelled", "message": "cancelled"})

        def work(_events: int = 0) -> None:
            until = time.monotonic() + _TURN
            try:
                while call.credit > 0:
                    piece = next(pieces, None)
                    if piece is None:
                        close()
                        call.end(exit_code=0)
                        return
                    call.write(piece)
                    if time.monotonic() > until:
                        loop.watch(turn, WRITE, work)
                        return
                loop.forget(turn)  # until there is credit again
            except Exception as error:
                close()
                call.fail(error)

        call.on_credit, call.on_cancel = work, cancel
        work()


def pack(top: int) -> Generator[bytes, None, None]:
    """Yields pieces of at most CHUNK bytes, some of them empty; each takes little work. Omits other file
    systems and sockets. Raises OSError, Failure."""
    linked: dict[int, bytes] = {}  # paths of files with several links, by inode
    size = 0
    for place, name, path, state in _walk(top):
        kind = stat.S_IFMT(state.st_mode)
        if kind == stat.S_IFREG:
            if state.st_nlink > 1 and state.st_ino in linked:
                pieces: Iterator[bytes] = iter([_head(path, _LINK, state, link=linked[state.st_ino])])
            else:
                linked |= {state.st_ino: path} if state.st_nlink > 1 else {}
                pieces = _file(place, name, path, state)
        elif kind == stat.S_IFLNK:
            pieces = _symlink(place, name, path, state)
        elif kind in (stat.S_IFDIR, stat.S_IFIFO):
            pieces = iter([_head(path, _FOLDER if kind == stat.S_IFDIR else _PIPE, state)])
        else:
            continue
        for piece in pieces:
            size += len(piece)
            yield piece
    yield bytes(2 * _BLOCK + -(size + 2 * _BLOCK) % (20 * _BLOCK))


def _walk(top: int) -> Iterator[tuple[int, str, bytes, os.stat_result]]:
    """Yields every entry below a directory, each directory before its content: the open parent directory, the
    entry's name, path and state. One directory is open at a time."""
    device = os.fstat(top).st_dev
    pending = [b"."]
    while pending:
        folder = pending.pop()
        try:
            place = _open_folder(top, folder)
        except OSError as error:
            if error.errno in _GONE:
                continue
            raise
        try:
            with os.scandir(place) as entries:
                for entry in entries:
                    try:
                        state = entry.stat(follow_symlinks=False)
                    except FileNotFoundError:
                        continue  # removed meanwhile
                    path = folder + b"/" + os.fsencode(entry.name)
                    if len(path) > _LONGEST:
                        raise Failure("invalid", f"a path of more than {_LONGEST} bytes cannot be archived")
                    if state.st_dev == device:
                        yield place, entry.name, path, state
                        if stat.S_ISDIR(state.st_mode):
                            pending.append(path)
        finally:
            os.close(place)


def _open_folder(top: int, folder: bytes) -> int:
    try:
        return paths.open_below(top, os.fsdecode(folder), os.O_RDONLY | os.O_DIRECTORY)
    except PermissionError as error:
        raise _unreadable(folder, error) from None


def _unreadable(path: bytes, error: OSError) -> Failure:
    name = path.decode(errors="replace")[:200]
    return Failure("os", f"{name}: {error.strerror}; only files that their owner may read can be archived")


def _symlink(place: int, name: str, path: bytes, state: os.stat_result) -> Iterator[bytes]:
    try:
        target = os.fsencode(os.readlink(name, dir_fd=place))
    except OSError as error:
        if error.errno in (*_GONE, errno.EINVAL):
            return
        raise
    yield _head(path, _SYMLINK, state, link=target)


def _file(place: int, name: str, path: bytes, state: os.stat_result) -> Iterator[bytes]:
    try:
        fd = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=place)
    except OSError as error:
        if error.errno in _GONE:
            return
        if error.errno == errno.EACCES:
            raise _unreadable(path, error) from None
        raise
    try:
        state = os.fstat(fd)
        if not stat.S_ISREG(state.st_mode):
            return  # replaced by another kind of entry
        size = state.st_size
        if _is_whole(fd, size):
            yield _head(path, _FILE, state, size)
            yield from _content(fd, [(0, size)])
            return
        extents: list[tuple[int, int]] = []
        for extent in _extents(fd, size):
            if extent is None:
                yield b""
            else:
                extents.append(extent)
        numbers = [len(extents), *(number for extent in extents for number in extent)]
        table = b"".join(b"%d\n" % number for number in numbers)
        table += bytes(-len(table) % _BLOCK)
        stored = len(table) + sum(length for _offset, length in extents)
        records = {b"GNU.sparse.major": b"1", b"GNU.sparse.minor": b"0", b"GNU.sparse.name": path}
        records[b"GNU.sparse.realsize"] = b"%d" % size
        yield _head(path, _FILE, state, stored, records=records)
        for start in range(0, len(table), wire.CHUNK):
            yield table[start : start + wire.CHUNK]
        yield from _content(fd, extents)
    finally:
        os.close(fd)


def _is_whole(fd: int, size: int) -> bool:
    """Whether a file has no holes, or is too small for them to matter."""
    try:
        return size < wire.CHUNK or os.lseek(fd, 0, os.SEEK_HOLE) >= size
    except OSError:
        return False  # this file system does not report holes


def _content(fd: int, extents: list[tuple[int, int]]) -> Iterator[bytes]:
    """Yields the content of extents, with zeros for truncated parts, padded to a whole block."""
    total = 0
    for offset, length in extents:
        end = offset + length
        while offset < end:
            data = os.pread(fd, min(wire.CHUNK, end - offset), offset)
            data = data or bytes(min(wire.CHUNK, end - offset))
            offset += len(data)
            yield data
        total += length
    yield bytes(-total % _BLOCK)


def _extents(fd: int, size: int) -> Iterator[tuple[int, int] | None]:
    """Yields offset and length of each part with data; None after some work without a result."""
    position = steps = 0
    while position < size:
        try:
            start = os.lseek(fd, position, os.SEEK_DATA)
            position = min(os.lseek(fd, start, os.SEEK_HOLE), size)
        except OSError as error:
            if error.errno == errno.ENXIO:
                return  # only a hole is left
            if error.errno != errno.EINVAL or position:
                raise
            yield from _not_zero(fd, size)  # this file system does not report holes
            return
        if start >= size:
            return
        yield start, position - start
        steps += 1
        if steps % _LOOKS == 0:
            yield None


def _not_zero(fd: int, size: int) -> Iterator[tuple[int, int] | None]:
    """Yields the same by reading the file."""
    first = None
    for offset in range(0, size, wire.CHUNK):
        data = os.pread(fd, min(wire.CHUNK, size - offset), offset)
        if data != _ZEROS[: len(data)]:
            first = offset if first is None else first
        elif first is not None:
            yield first, offset - first
            first = None
        yield None
    if first is not None:
        yield first, size - first


def _head(
    path: bytes,
    kind: bytes,
    state: os.stat_result,
    size: int = 0,
    *,
    link: bytes = b"",
    records: dict[bytes, bytes] | None = None,
) -> bytes:
    """Returns the header blocks of a member."""
    records = dict(records or {})
    whole, rest = divmod(state.st_mtime_ns, 1_000_000_000)
    records[b"mtime"] = b"%d.%09d" % (whole, rest) if whole >= 0 else b"%d" % whole
    for key, text in ((b"path", path), (b"linkpath", link)):
        if len(text) > 100 or not text.isascii():
            records[key] = text
            if not _is_utf8(text):
                records[b"hdrcharset"] = b"BINARY"
    if size >= 8**11:
        records[b"size"] = b"%d" % size
    lines = b"".join(_record(key, text) for key, text in sorted(records.items(), key=_charset_first))
    seconds = max(0, min(int(state.st_mtime), 8**11 - 1))
    blocks = (
        _ustar(b"pax", _PAX, 0o644, len(lines), 0) + lines + bytes(-len(lines) % _BLOCK) if lines else b""
    )
    return blocks + _ustar(path, kind, stat.S_IMODE(state.st_mode), size % 8**11, seconds, link)


def _charset_first(record: tuple[bytes, bytes]) -> bool:
    return record[0] != b"hdrcharset"


def _is_utf8(text: bytes) -> bool:
    try:
        text.decode()
    except UnicodeDecodeError:
        return False
    return True


def _record(key: bytes, text: bytes) -> bytes:
    """Returns `length key=text`, where the length includes its own digits."""
    rest = b" " + key + b"=" + text + b"\n"
    length = len(rest)
    while length != len(rest) + len(b"%d" % length):
        length = len(rest) + len(b"%d" % length)
    return b"%d" % length + rest


def _ustar(name: bytes, kind: bytes, mode: int, size: int, seconds: int, link: bytes = b"") -> bytes:
    number = b"%07o"
    fields = [
        name[:100], number % mode, number % 0, number % 0, b"%011o" % size, b"%011o" % seconds, b" " * 8,
        kind, link[:100], b"ustar\00000", b"", b"", number % 0, number % 0, b"",
    ]  # fmt: skip
    fields[6] = b"%06o\0 " % sum(_HEADER.pack(*fields))
    return _HEADER.pack(*fields)
