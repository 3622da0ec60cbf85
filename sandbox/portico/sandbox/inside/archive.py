"""File operations that may take long: search and removal. Each runs in a process of its own, and imports its
modules there: modules loaded in the zygote slow down every fork."""

import os
import stat
from collections.abc import Iterator
from typing import Any, Final

from . import paths, wire
from .calls import Failure

_MAX_RESULTS: Final = 10_000
_MAX_BYTES: Final = 8 << 20  # of all results
_MAX_TEXT_FILE: Final = 32 << 20  # bytes; the content of longer files is not searched


def remove(request: dict[str, Any]) -> None:
    """Removes an entry; a non-empty directory only with `recursive`. rmtree follows no links."""
    parent, name = paths.open_parent(request["path"])
    if os.path.isdir(f"/proc/self/fd/{parent}/{name}") and not os.path.islink(
        f"/proc/self/fd/{parent}/{name}"
    ):
        if request.get("recursive"):
            import shutil

            shutil.rmtree(name, dir_fd=parent)
        else:
            os.rmdir(name, dir_fd=parent)
    else:
        os.unlink(name, dir_fd=parent)


def search(request: dict[str, Any]) -> None:
    """Writes a JSON line for each entry whose name or path matches and, with a text, whose content contains
    it.
    """
    top = request["path"].rstrip("/") or "."
    pattern, text, exclude = request.get("pattern") or "*", request.get("text"), request.get("exclude", [])
    fd = paths.open_directory(top)
    found = size = 0
    with open(1, "wb", closefd=False) as out:
        for path, name, folder in _entries(fd, pattern, exclude):
            line = None
            if text is not None:
                line = _line_with(name, folder, text)
                if line is None:
                    continue
            found += 1
            told = wire.encode({"path": f"{top}/{path}", "line": line}) + b"\n"
            size += len(told)
            if found > _MAX_RESULTS:
                problem = f"more than {_MAX_RESULTS} files; search a subdirectory, or for a longer name"
                raise Failure("limit", problem, limit="output")
            if size > _MAX_BYTES:
                raise Failure("limit", f"more than {_MAX_BYTES} bytes of results", limit="output")
            out.write(told)


def _entries(top: int, pattern: str, exclude: list[str]) -> Iterator[tuple[str, str, int]]:
    """Yields the path, name and open directory of each match."""
    for folder, names, files, folder_fd in os.fwalk(".", dir_fd=top):
        prefix = "" if folder == "." else folder[2:] + "/"
        names[:] = [name for name in names if not _matches(prefix + name, exclude)]
        for name in sorted([*names, *files]):
            path = prefix + name
            if not _matches(path, exclude) and _matches(path, [pattern]):
                yield path, name, folder_fd


def _matches(path: str, patterns: list[str]) -> bool:
    """Whether a path matches a pattern. A pattern without a slash applies to the last component, as in
    .gitignore; ** spans directories."""
    import fnmatch

    name = path.rpartition("/")[2]
    for pattern in patterns:
        if fnmatch.fnmatchcase(path, pattern) or fnmatch.fnmatchcase(name, pattern):
            return True
        if pattern.startswith("**/") and fnmatch.fnmatchcase(path, pattern[3:]):
            return True
    return False


def _line_with(name: str, folder: int, text: str) -> int | None:
    """Returns the number of the first line that contains the text; None if there is none."""
    try:
        fd = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK, dir_fd=folder)
    except OSError:
        return None
    state = os.fstat(fd)
    if not stat.S_ISREG(state.st_mode) or state.st_size > _MAX_TEXT_FILE:
        os.close(fd)
        return None
    with open(fd, "rb") as file:
        content = file.read()
    place = content.find(text.encode())
    return None if place < 0 else content.count(b"\n", 0, place) + 1
