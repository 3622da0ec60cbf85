"""Unix socket between a core and its gateways, in a private folder of the process that starts both."""

import fcntl
import os
import secrets
import shutil
import stat
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

PATH_BYTES = 100  # the kernel accepts 107; gRPC adds some
PREFIX = "portico-run-"
SOCKET = "core.sock"  # the longest name used in such a folder
USUAL = ("/tmp", "/var/tmp", "/dev/shm")  # noqa: S108 - the folders made in them have unguessable names


@contextmanager
def core_socket(*more_folders: Path) -> Iterator[str]:
    """Yields a free gRPC address of a Unix socket, in a folder from `socket_folder`.

    If no folder can be made, the socket is abstract: every user of this machine, or of its network namespace,
    can connect to it, as to the core's TCP port. Raises OSError where abstract sockets don't exist, and where
    callers need a client certificate, which a Unix socket can't check.
    """
    with socket_folder(*more_folders) as folder:
        yield _abstract() if folder is None else f"unix:{folder / SOCKET}"


@contextmanager
def socket_folder(*more_folders: Path) -> Iterator[Path | None]:
    """Yields a private folder for sockets, which is removed at the end; None if none can be made.

    Its parent is the first of the usual folders for temporary files, then of `more_folders`, that is writable
    and short enough for a socket's path.
    """
    for parent in _candidates(more_folders):
        _remove_abandoned(parent)
        with suppress(OSError):
            folder, lock = _make(parent)
            break
    else:
        yield None
        return
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        os.close(lock)


def _candidates(more_folders: Sequence[Path]) -> Sequence[Path]:
    named = [os.environ.get(name) for name in ("TMPDIR", "XDG_RUNTIME_DIR")]
    paths = [Path(name) for name in (*named, *USUAL) if name]
    longest = len(os.sep) + len(PREFIX) + 8 + len(os.sep) + len(SOCKET)  # mkdtemp adds eight characters
    return [
        path
        for path in (*paths, *more_folders)
        if path.is_absolute() and len(os.fsencode(path)) + longest <= PATH_BYTES
    ]


def _make(parent: Path) -> tuple[Path, int]:
    """Makes a folder; returns it with a descriptor whose lock marks it as in use. Raises OSError."""
    while True:
        folder = Path(tempfile.mkdtemp(prefix=PREFIX, dir=parent))
        try:
            lock = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        except FileNotFoundError:
            continue  # another starting process removed it as abandoned
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if os.path.samestat(os.fstat(lock), os.stat(folder)):
                return folder, lock
        except (BlockingIOError, FileNotFoundError):
            pass  # another process removed it first
        os.close(lock)


def _remove_abandoned(parent: Path) -> None:
    """Removes folders of killed supervisors: the kernel released their locks, but the folders stay."""
    with suppress(OSError):
        for folder in parent.glob(f"{PREFIX}*"):
            with suppress(OSError):
                lock = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
                try:
                    about = os.fstat(lock)
                    if about.st_uid == os.geteuid() and stat.S_ISDIR(about.st_mode):
                        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                        shutil.rmtree(folder, ignore_errors=True)
                finally:
                    os.close(lock)


def _abstract() -> str:
    """A free abstract address. Raises OSError."""
    advice = "set TMPDIR to a writable folder with a short path"
    if os.environ.get("PORTICO_CORE_TLS_CLIENT_CA"):
        raise OSError(f"no private folder for the socket between core and gateway: {advice}")
    if sys.platform != "linux":
        raise OSError(f"no folder for the socket between core and gateway: {advice}")
    return f"unix-abstract:{PREFIX}{secrets.token_hex(16)}"
