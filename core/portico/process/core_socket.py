"""Where a core and its gateways meet: a Unix socket in a folder of whoever started both."""

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

PATH_BYTES = 100  # the kernel takes 107, less what gRPC adds
PREFIX = "portico-run-"
SOCKET = "core.sock"  # no other name in such a folder is longer
USUAL = ("/tmp", "/var/tmp", "/dev/shm")  # noqa: S108 - names that nobody can guess are made in them


@contextmanager
def core_socket(*more_folders: Path) -> Iterator[str]:
    """A gRPC address that nothing listens on yet, in a folder as `socket_folder` makes it.

    Without one the socket is abstract: every user of this machine, or of its network namespace, can connect
    to it, as to the core's TCP port. Raises OSError where there are no abstract sockets, and where callers
    need a certificate, which no Unix socket asks for.
    """
    with socket_folder(*more_folders) as folder:
        yield _abstract() if folder is None else f"unix:{folder / SOCKET}"


@contextmanager
def socket_folder(*more_folders: Path) -> Iterator[Path | None]:
    """A folder for sockets with short names, of this process alone; it goes at the end.

    It is in the first of the usual folders for temporary files, and then of the given ones, that can be
    written and leaves room for a socket's name. None where there is no such folder.
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
    """A folder, and the descriptor that says by its lock that the folder is in use. Raises OSError."""
    while True:
        folder = Path(tempfile.mkdtemp(prefix=PREFIX, dir=parent))
        try:
            lock = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        except FileNotFoundError:
            continue  # another start took it for an abandoned one
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if os.path.samestat(os.fstat(lock), os.stat(folder)):
                return folder, lock
        except (BlockingIOError, FileNotFoundError):
            pass  # the same
        os.close(lock)


def _remove_abandoned(parent: Path) -> None:
    """The kernel lets go of the lock of a supervisor that was killed; its folder stays."""
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
    """Raises OSError."""
    advice = "set TMPDIR to a folder that can be written and has a short path"
    if os.environ.get("PORTICO_CORE_TLS_CLIENT_CA"):
        raise OSError(f"no folder for the socket between core and gateway, which is not for others: {advice}")
    if sys.platform != "linux":
        raise OSError(f"no folder for the socket between core and gateway: {advice}")
    return f"unix-abstract:{PREFIX}{secrets.token_hex(16)}"
