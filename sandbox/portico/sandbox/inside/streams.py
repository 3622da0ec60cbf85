"""The kernel's standard streams: UTF-8 text, flushed by line, and reopened when a cell has closed them."""

import fcntl
import io
import os
import sys
from typing import Any, Final

SPARES: Final = {1: 901, 2: 902}  # copies of standard output and error, beyond the numbers code inside uses
_NAMES: Final = {1: "stdout", 2: "stderr"}
_OPTIONS: Final[dict[str, Any]] = {"encoding": "utf-8", "errors": "backslashreplace", "line_buffering": True}


def prepare() -> None:
    """Configures the streams of this process and its forks."""
    for stream in (sys.stdin, sys.stdout, sys.stderr):
        assert isinstance(stream, io.TextIOWrapper)
        stream.reconfigure(**_OPTIONS)


def flush() -> None:
    """Flushes standard output and error."""
    for name in _NAMES.values():
        try:
            getattr(sys, name).flush()
        except Exception:  # noqa: S110  a cell may have replaced or closed it
            pass


def plain() -> bool:
    """Whether output goes to the kernel's own descriptors, without being captured."""
    try:
        return bool(sys.stdout.fileno() == 1 and sys.stderr.fileno() == 2)
    except Exception:  # a cell's own stream without a descriptor
        return False


def settle() -> None:
    """Flushes the streams after a cell, and reopens those that the cell has closed."""
    try:
        sys.stdout.flush()
        sys.stderr.flush()
        for fd in range(3):
            fcntl.fcntl(fd, fcntl.F_GETFD)
    except Exception:
        _mend()


def _mend() -> None:
    for fd, spare in SPARES.items():
        try:
            fcntl.fcntl(fd, fcntl.F_GETFD)
        except OSError:
            os.dup2(spare, fd)
        stream = getattr(sys, _NAMES[fd], None)
        if stream is None or getattr(stream, "closed", False):
            raw = open(fd, "wb", closefd=False)  # noqa: SIM115  it stays open as long as the kernel lives
            setattr(sys, _NAMES[fd], io.TextIOWrapper(raw, **_OPTIONS))
    try:
        fcntl.fcntl(0, fcntl.F_GETFD)
    except OSError:
        os.set_inheritable(os.open("/dev/null", os.O_RDONLY), True)  # takes the lowest free descriptor
    flush()
