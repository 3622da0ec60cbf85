"""Runs a command in a real terminal."""

import os
import pty
import subprocess
import sys
from collections.abc import Mapping


def in_terminal(*arguments: str, env: Mapping[str, str] | None = None, timeout: float = 60) -> bytes:
    """Returns everything that `python -m …` wrote to its terminal."""
    ours, theirs = pty.openpty()
    try:
        process = subprocess.Popen(
            [sys.executable, "-m", *arguments], stdin=theirs, stdout=theirs, stderr=theirs, env=env
        )
    finally:
        os.close(theirs)
    shown = b""
    try:
        while data := _read(ours):
            shown += data
        process.wait(timeout)
    finally:
        process.kill()
        process.wait()
        os.close(ours)
    return shown


def _read(fd: int) -> bytes:
    try:
        return os.read(fd, 65_536)
    except OSError:  # EIO: the other end is closed
        return b""
