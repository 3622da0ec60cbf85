"""Extracts a tar stream into a directory, in a separate process under the sandbox's limits: it follows no
link, writes no file through another name, and keeps sparse files sparse."""

import errno
import os
import posixpath
import stat
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, Final

from . import paths
from .calls import Failure
from .replacing import exists

if TYPE_CHECKING:
    import tarfile

_PIECE: Final = 256 << 10  # bytes
_SHOWN: Final = 200  # characters of a name in an error message


def unpack(request: dict[str, Any]) -> None:
    """Extracts a tar stream, compressed or not, from standard input into a directory. With `clear` the
    directory is emptied first; with `exact` links may lead anywhere, as `pack` writes them. Raises Failure,
    OSError."""
    import tarfile  # rarely needed; in the zygote it would slow down every fork

    top = paths.open_directory(request["path"])
    if request.get("clear"):
        clear(top, _mounts_below(request["path"]))
    exact = bool(request.get("exact"))
    folders: list[tuple[str, int, int]] = []  # with mode and time, which are set at the end
    with os.fdopen(0, "rb", closefd=False) as source:
        try:
            with tarfile.open(fileobj=source, mode="r|*") as tar:
                while (member := tar.next()) is not None:
                    tar.members = []  # type: ignore[attr-defined]  # otherwise it keeps all members
                    _extract(tar, member, top, exact, folders)
        except (tarfile.TarError, EOFError) as error:
            raise Failure("invalid", f"{type(error).__name__}: {error}") from None
        while source.read(1 << 16):
            pass  # the padding after the last member
    for name, mode, modified in reversed(folders):
        fd = paths.open_below(top, name, os.O_RDONLY | os.O_DIRECTORY)
        if os.fstat(fd).st_uid == os.getuid():  # a mount's parent may belong to the system
            os.utime(fd, ns=(modified, modified))
            os.fchmod(fd, mode)
        os.close(fd)


def _extract(
    tar: "tarfile.TarFile",
    member: "tarfile.TarInfo",
    top: int,
    exact: bool,
    folders: list[tuple[str, int, int]],
) -> None:
    path = _plain(member.name, member.name)
    if path == ".":
        return
    folder, name = posixpath.split(path)
    parent = _parent(top, folder)
    modified = _nanoseconds(member)
    try:
        if member.isdir():
            try:
                os.mkdir(name, 0o700, dir_fd=parent)
            except FileExistsError:
                if not stat.S_ISDIR(os.stat(name, dir_fd=parent, follow_symlinks=False).st_mode):
                    raise
            folders.append((path, member.mode & 0o1777 if exact else member.mode & 0o755 | 0o700, modified))
            return
        try:
            os.unlink(name, dir_fd=parent)
        except FileNotFoundError:
            pass
        if member.isreg():
            fd = os.open(name, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600, dir_fd=parent)
            try:
                _write(tar, member, fd)
                os.utime(fd, ns=(modified, modified))
                os.fchmod(fd, member.mode & 0o1777 if exact else member.mode & 0o755 | 0o600)
            finally:
                os.close(fd)
        elif member.issym():
            if not exact:
                _plain(posixpath.join(folder, member.linkname), member.name)
            os.symlink(member.linkname, name, dir_fd=parent)
            os.utime(name, ns=(modified, modified), dir_fd=parent, follow_symlinks=False)
        elif member.islnk():
            where, target = posixpath.split(_plain(member.linkname, member.name))
            source = paths.open_below(top, where or ".", os.O_RDONLY | os.O_DIRECTORY)
            try:
                os.link(target, name, src_dir_fd=source, dst_dir_fd=parent, follow_symlinks=False)
            finally:
                os.close(source)
        elif member.isfifo() and exact:
            os.mkfifo(name, dir_fd=parent)
            os.utime(name, ns=(modified, modified), dir_fd=parent, follow_symlinks=False)
            os.chmod(name, member.mode & 0o777, dir_fd=parent)
        else:
            raise Failure("invalid", f"{member.name[:_SHOWN]}: neither a file, a directory nor a link")
    finally:
        os.close(parent)


def _plain(path: str, name: str) -> str:
    """Returns a normalized path that stays below the directory. Raises Failure."""
    plain = posixpath.normpath(path)
    if path.startswith("/") or plain.split("/")[0] == ".." or "\0" in path:
        raise Failure("invalid", f"{name[:_SHOWN]}: leads outside the directory")
    return plain


def _parent(top: int, folder: str) -> int:
    """Opens a directory; creates it if it is missing."""
    try:
        return paths.open_below(top, folder or ".", os.O_RDONLY | os.O_DIRECTORY)
    except FileNotFoundError:
        above, name = posixpath.split(folder)
        parent = _parent(top, above)
        try:
            os.mkdir(name, 0o755, dir_fd=parent)
        finally:
            os.close(parent)
        return paths.open_below(top, folder, os.O_RDONLY | os.O_DIRECTORY)


def _write(tar: "tarfile.TarFile", member: "tarfile.TarInfo", fd: int) -> None:
    """Writes a file's content. Raises Failure for a truncated stream."""
    source: Any = tar.fileobj
    source.seek(member.offset_data)
    sparse: Any = member.sparse
    extents: Iterable[tuple[int, int]] = [(0, member.size)] if sparse is None else sparse
    for offset, left in extents:
        os.lseek(fd, offset, os.SEEK_SET)
        while left > 0:
            data = source.read(min(_PIECE, left))
            if not data:
                raise Failure("invalid", f"{member.name[:_SHOWN]}: the archive ends in the middle of it")
            left -= len(data)
            view = memoryview(data)
            while view:
                view = view[os.write(fd, view) :]
    os.ftruncate(fd, member.size)


def _nanoseconds(member: "tarfile.TarInfo") -> int:
    seconds, _, rest = member.pax_headers.get("mtime", "").partition(".")
    if seconds.isdecimal() and (rest.isdecimal() or not rest):
        return int(seconds) * 1_000_000_000 + int(rest.ljust(9, "0")[:9])
    return int(member.mtime) * 1_000_000_000


def _mounts_below(path: str) -> set[str]:
    """Returns the mounts below a directory, and their parent directories, by their paths below it."""
    root, rest = paths.split(path)
    top = posixpath.normpath(posixpath.join(root, rest))
    kept = set()
    for mount in paths.roots[paths.OWN :]:
        if mount.startswith(top + "/"):
            below = posixpath.normpath(mount[len(top) + 1 :])
            while below:
                kept.add(below)
                below = posixpath.dirname(below)
    return kept


def clear(top: int, kept: set[str], folder: str = "") -> None:
    """Empties an open directory, except for the names in `kept` and other file systems. Raises OSError.

    Moves deep directories up before it removes them: a tree may be deeper than the limit of descriptors.
    """
    device = os.fstat(top).st_dev
    number = 0
    while names := [name for name in os.listdir(top) if posixpath.join(folder, name) not in kept]:
        for name in names:
            state = os.stat(name, dir_fd=top, follow_symlinks=False)
            if not stat.S_ISDIR(state.st_mode):
                os.unlink(name, dir_fd=top)
                continue
            if state.st_dev != device:
                kept = kept | {posixpath.join(folder, name)}
                continue
            place = _enter(top, name)
            try:
                for inner in os.listdir(place):
                    inner_state = os.stat(inner, dir_fd=place, follow_symlinks=False)
                    if stat.S_ISDIR(inner_state.st_mode):
                        if inner_state.st_dev != device:
                            raise OSError(errno.EBUSY, f"{name[:_SHOWN]}: it contains a mount")
                        os.close(_enter(place, inner))  # moving a directory requires write permission for it
                        number += 1
                        while exists(top, moved := f".{number}"):
                            number += 1
                        os.rename(inner, moved, src_dir_fd=place, dst_dir_fd=top)
                    else:
                        os.unlink(inner, dir_fd=place)
            finally:
                os.close(place)
            os.rmdir(name, dir_fd=top)
    for name in os.listdir(top):
        below = posixpath.join(folder, name)
        if below in kept and any(other.startswith(below + "/") for other in kept):
            place = os.open(name, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW, dir_fd=top)
            try:
                clear(place, kept, below)
            finally:
                os.close(place)


def _enter(parent: int, name: str) -> int:
    """Opens a directory and gives its owner all permissions for it. Raises OSError."""
    fd = os.open(name, os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW, dir_fd=parent)
    try:
        os.chmod(f"/proc/self/fd/{fd}", 0o700)
        return os.open(f"/proc/self/fd/{fd}", os.O_RDONLY | os.O_DIRECTORY)
    finally:
        os.close(fd)
