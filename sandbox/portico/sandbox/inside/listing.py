"""Lists the entries of a directory, each directory before its content. Process 1 lists small directories;
others are listed in a process of their own.
"""

import os
import stat
from collections.abc import Iterator
from itertools import islice
from typing import Any, Final

from . import paths, wire
from .calls import Call
from .processes import Processes

_FEW: Final = 256  # entries that process 1 lists
_MAX_ENTRIES: Final = 20_000  # of one page
_MAX_BYTES: Final = 8 << 20  # of one page
_DEEPEST: Final = 64


class _TooMany(Exception):
    """There are more entries than process 1 lists."""


def start(processes: Processes, call: Call, request: dict[str, Any]) -> None:
    """Sends a JSON line per entry of a page, and a last one if there are more. Raises OSError."""
    try:
        lines = b"".join(_page(request, _FEW))
    except _TooMany:
        processes.work(call, request["op"], lambda: _tell(request))
        return
    for place in range(0, len(lines), wire.CHUNK):
        call.write(lines[place : place + wire.CHUNK])
    call.end(exit_code=0)


def _tell(request: dict[str, Any]) -> None:
    with open(1, "wb", closefd=False) as out:
        out.writelines(_page(request, None))


def _page(request: dict[str, Any], few: int | None) -> Iterator[bytes]:
    """Yields the lines of the entries after a path, which is relative to the directory. Raises _TooMany for
    more than `few` entries."""
    top = paths.open_directory(request["path"])
    depth = min(int(request.get("depth", 1)), _DEEPEST)
    most = min(int(request.get("count", _MAX_ENTRIES)), _MAX_ENTRIES)
    after = request.get("after", "").split("/") if request.get("after") else []
    size = 0
    try:
        for number, entry in enumerate(_scan(top, request["path"].rstrip("/") or ".", depth, few, after)):
            if number == few:
                raise _TooMany
            if number == most or size > _MAX_BYTES:
                yield wire.encode({"more": True}) + b"\n"
                return
            line = wire.encode(entry) + b"\n"
            size += len(line)
            yield line
    finally:
        os.close(top)


def _scan(fd: int, path: str, depth: int, few: int | None, after: list[str]) -> Iterator[dict[str, Any]]:
    """Yields the entries after a name, or after an entry below it, in traversal order."""
    first, below = (after[0], after[1:]) if after else ("", [])
    with os.scandir(fd) as found:
        names = [entry.name for entry in islice(found, few and few + 1)]
    if few is not None and len(names) > few:
        raise _TooMany
    for name in sorted(name for name in names if name >= first):
        begun = name == first  # an earlier page had this entry, but not all of its content
        try:
            entry = describe(f"{path}/{name}", os.stat(name, dir_fd=fd, follow_symlinks=False))
            if not begun:
                yield entry
            if entry["type"] != "directory" or depth <= 1:
                continue
            inner = os.open(name, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW, dir_fd=fd)
            try:
                yield from _scan(inner, entry["path"], depth - 1, few, below if begun else [])
            finally:
                os.close(inner)
        except FileNotFoundError:
            continue  # removed meanwhile


def describe(path: str, state: os.stat_result) -> dict[str, Any]:
    kinds = {stat.S_IFREG: "file", stat.S_IFDIR: "directory", stat.S_IFLNK: "link"}
    return {
        "path": path,
        "type": kinds.get(stat.S_IFMT(state.st_mode), "other"),
        "size": state.st_size,
        "mode": stat.S_IMODE(state.st_mode),
        "modified": _moment(state.st_mtime),
        "accessed": _moment(state.st_atime),
        "changed": _moment(state.st_ctime),
    }


def _moment(seconds: float) -> float:
    """Limits a time stamp, which code can set to any value, to the years 1 to 9999, which Python supports."""
    return max(-62_135_596_800.0, min(seconds, 253_402_300_799.0))
