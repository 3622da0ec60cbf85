"""The entries of a directory, each before what is in it. Process 1 lists a few itself; many are listed in a
process of their own.
"""

import os
import stat
from collections.abc import Iterator
from itertools import islice
from typing import Any, Final

from . import paths, wire
from .calls import Call, Failure
from .processes import Processes

_FEW: Final = 256  # names that are looked at in process 1
_MAX_ENTRIES: Final = 20_000
_MAX_BYTES: Final = 8 << 20  # of a whole answer
_DEEPEST: Final = 64


class _TooMany(Exception):
    pass


def start(processes: Processes, call: Call, request: dict[str, Any]) -> None:
    """Sends a JSON line for each entry. Raises Failure, OSError."""
    try:
        lines = b"".join(_lines(request, _FEW))
    except _TooMany:
        processes.work(call, request["op"], lambda: _tell(request))
        return
    for place in range(0, len(lines), wire.CHUNK):
        call.write(lines[place : place + wire.CHUNK])
    call.end(exit_code=0)


def _tell(request: dict[str, Any]) -> None:
    size = 0
    with open(1, "wb", closefd=False) as out:
        for line in islice(_lines(request, None), _MAX_ENTRIES):
            size += len(line)
            if size > _MAX_BYTES:
                raise Failure("limit", f"more than {_MAX_BYTES} bytes of entries", limit="output")
            out.write(line)


def _lines(request: dict[str, Any], few: int | None) -> Iterator[bytes]:
    """Raises _TooMany for more than a few."""
    top = paths.open_directory(request["path"])
    depth = min(int(request.get("depth", 1)), _DEEPEST)
    try:
        for number, entry in enumerate(_scan(top, request["path"].rstrip("/") or ".", depth, few)):
            if number == few:
                raise _TooMany
            yield wire.encode(entry) + b"\n"
    finally:
        os.close(top)


def _scan(fd: int, path: str, depth: int, few: int | None) -> Iterator[dict[str, Any]]:
    with os.scandir(fd) as found:
        names = [entry.name for entry in islice(found, few and few + 1)]
    if few is not None and len(names) > few:
        raise _TooMany
    for name in sorted(names):
        try:
            entry = describe(f"{path}/{name}", os.stat(name, dir_fd=fd, follow_symlinks=False))
            yield entry
            if entry["type"] != "directory" or depth <= 1:
                continue
            below = os.open(name, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW, dir_fd=fd)
            try:
                yield from _scan(below, entry["path"], depth - 1, few)
            finally:
                os.close(below)
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
    """Between the years 1 and 9999, where dates end elsewhere; code can set any."""
    return max(-62_135_596_800.0, min(seconds, 253_402_300_799.0))
