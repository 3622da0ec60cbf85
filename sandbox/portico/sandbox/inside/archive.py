"""File work that can take long: search, removal, packing and unpacking. Each runs in a process of its own,
and imports there what no other needs: whatever the zygote has imported, every fork is slowed down by.
"""

import json
import os
import stat
import sys
from typing import TYPE_CHECKING, Any, Final

from . import paths
from .calls import Failure

if TYPE_CHECKING:
    import tarfile

_MAX_RESULTS: Final = 10_000
_MAX_TEXT_FILE: Final = 32 << 20  # bytes; longer files are not searched for text


def remove(request: dict[str, Any]) -> None:
    """Removes an entry; a directory that is not empty only when asked to. rmtree follows no link."""
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
    """Writes a JSON line for each entry whose name or path matches, and, with a text, whose content has
    it.
    """
    top = request["path"].rstrip("/") or "."
    pattern, text, exclude = request.get("pattern") or "*", request.get("text"), request.get("exclude", [])
    fd = paths.open_directory(top)
    found = 0
    for folder, names, files, folder_fd in os.fwalk(".", dir_fd=fd):
        prefix = "" if folder == "." else folder[2:] + "/"
        names[:] = [name for name in names if not _matches(prefix + name, exclude)]
        for name in sorted([*names, *files]):
            path = prefix + name
            if _matches(path, exclude) or not _matches(path, [pattern]):
                continue
            line = None
            if text is not None:
                line = _line_with(name, folder_fd, text)
                if line is None:
                    continue
            found += 1
            if found > _MAX_RESULTS:
                return
            sys.__stdout__.write(json.dumps({"path": f"{top}/{path}", "line": line}) + "\n")  # type: ignore[union-attr]
    sys.__stdout__.flush()  # type: ignore[union-attr]


def _matches(path: str, patterns: list[str]) -> bool:
    """A pattern without a slash is for the last component, as in .gitignore; ** spans directories."""
    import fnmatch

    name = path.rpartition("/")[2]
    for pattern in patterns:
        if fnmatch.fnmatchcase(path, pattern) or fnmatch.fnmatchcase(name, pattern):
            return True
        if pattern.startswith("**/") and fnmatch.fnmatchcase(path, pattern[3:]):
            return True
    return False


def _line_with(name: str, folder: int, text: str) -> int | None:
    """The number of the first line that has the text."""
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


def pack(request: dict[str, Any]) -> None:
    """Writes the directory as a tar stream."""
    import tarfile

    fd = paths.open_directory(request["path"])
    os.fchdir(fd)
    with os.fdopen(1, "wb", closefd=False) as out, tarfile.open(fileobj=out, mode="w|") as tar:
        tar.add(".", recursive=True)


def unpack(request: dict[str, Any]) -> None:
    """Replaces the directory's content by that of a tar stream; members that lead out are refused."""
    import shutil
    import tarfile

    fd = paths.open_directory(request["path"])
    os.fchdir(fd)
    if request.get("clear"):
        for name in os.listdir("."):
            if os.path.isdir(name) and not os.path.islink(name):
                shutil.rmtree(name)
            else:
                os.unlink(name)
    with os.fdopen(0, "rb", closefd=False) as source:
        try:
            with tarfile.open(fileobj=source, mode="r|*") as tar:
                if hasattr(tarfile, "data_filter"):
                    tar.extractall(".", filter="data")
                else:
                    _extract_plain(tar)
        except tarfile.TarError as error:
            raise Failure("invalid", f"{type(error).__name__}: {error}") from None
        while source.read(1 << 16):
            pass  # the padding after the last member


def _extract_plain(tar: "tarfile.TarFile") -> None:
    """For Pythons before 3.11.4, which have no filters: files, directories and links that stay below."""
    for member in tar:
        paths_in = [member.name, *([member.linkname] if member.issym() else [])]
        leads_out = any(path.startswith("/") or ".." in path.split("/") for path in paths_in)
        if leads_out or not (member.isreg() or member.isdir() or member.issym()):
            raise Failure("invalid", f"{member.name[:200]}: no file, directory or link that stays inside")
        member.mode = member.mode & 0o755 | (0o700 if member.isdir() else 0o600)
        member.uid, member.gid, member.uname, member.gname = os.getuid(), os.getgid(), "", ""
        tar.extract(member, ".")
