"""Runs shell commands of cells: passes their output on at once; an interrupt ends all their processes."""

import os
import signal
import subprocess
import sys
from collections.abc import Callable
from typing import Final

from . import streams

_PATIENCE: Final = 0.3  # seconds from the interrupt of a command to its kill
_CHUNK: Final = 64 << 10  # bytes


def run(command: str) -> int:
    """Runs a command, shows its output, and returns its exit code; negative for a signal."""
    streams.flush()
    if streams.plain():
        with _start(command, None) as process:
            return _wait(process, process.wait)
    return _read(command, lambda text: sys.stdout.write(text))  # a cell has replaced sys.stdout


def output(command: str) -> str:
    """Runs a command and returns its output of both streams."""
    parts: list[str] = []
    _read(command, parts.append)
    return "".join(parts)


def _read(command: str, take: Callable[[str], object]) -> int:
    def read() -> int:
        assert process.stdout is not None
        while data := os.read(process.stdout.fileno(), _CHUNK):
            take(data.decode(errors="replace"))
        return process.wait()

    with _start(command, subprocess.PIPE) as process:
        return _wait(process, read)


def _start(command: str, out: int | None) -> subprocess.Popen[bytes]:
    shell = os.environ.get("SHELL", "/bin/sh")
    return subprocess.Popen(  # noqa: S602  the cell's own command
        command,
        shell=True,
        executable=shell if os.path.exists(shell) else "/bin/sh",
        stdout=out,
        stderr=None if out is None else subprocess.STDOUT,
        process_group=0,
    )


def _wait(process: subprocess.Popen[bytes], until: Callable[[], int]) -> int:
    try:
        return until()
    except BaseException:
        for number in (signal.SIGINT, signal.SIGKILL):
            try:
                os.killpg(process.pid, number)
                process.wait(_PATIENCE)
            except (ProcessLookupError, subprocess.TimeoutExpired):
                pass
        raise
