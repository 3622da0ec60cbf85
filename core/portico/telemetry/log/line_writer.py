"""Appends lines to a file in a separate thread, in order; a full queue blocks instead of losing lines."""

import logging
import os
import stat
import threading
from pathlib import Path

from portico.telemetry.log.retry_log import RetryLog

log = logging.getLogger(__name__)

WAITING = 10_000  # queued lines; with more, `write` blocks until the disk has caught up
GATHER_SECONDS = 0.02  # lines of this period are written together


class LineWriter:
    """Appends to a file that only its owner may read. If the file is moved away (log rotation), a new one is
    created. Thread-safe."""

    def __init__(self, path: Path) -> None:
        """Opens the file. Raises OSError."""
        self._path = path
        self._file = _opened(path)
        self._waiting: list[bytes] = []
        self._change = threading.Condition()
        self._news = threading.Event()
        self._closing = threading.Event()
        self._torn = False  # the last write ended within a line
        self._failing = RetryLog()
        self._lost = 0
        self._thread = threading.Thread(target=self._run, name=f"portico-{path.name}", daemon=True)
        self._thread.start()

    def write(self, line: bytes) -> None:
        """Queues a line without line feed. Lines that can't be written are reported as lost in the log."""
        with self._change:
            while len(self._waiting) >= WAITING:
                self._change.wait()
            self._waiting.append(line)
            if len(self._waiting) == 1:
                self._news.set()

    def close(self) -> None:
        """Blocks until all lines are written."""
        self._closing.set()
        self._news.set()
        self._thread.join()
        os.close(self._file)

    def _run(self) -> None:
        while True:
            self._news.wait()
            closing = self._closing.wait(GATHER_SECONDS)
            with self._change:
                lines, self._waiting = self._waiting, []
                self._news.clear()
                self._change.notify_all()
            if lines:
                self._put(lines)
            elif closing:
                return
            if closing:
                self._news.set()  # other threads may still write

    def _put(self, lines: list[bytes]) -> None:
        try:
            if self._is_moved():
                os.close(self._file)
                self._file = _opened(self._path)
                self._torn = False
            left = memoryview(b"\n".join([*([b""] if self._torn else ()), *lines, b""]))
            while left:
                written = os.write(self._file, left)
                self._torn, left = left[written - 1] != 10, left[written:]
        except Exception as error:  # if this thread ended, writers would block for ever
            self._lost += len(lines)
            if self._failing.due():
                log.error("%s can't be written; %d lines are lost: %s", self._path, self._lost, error)

    def _is_moved(self) -> bool:
        ours = os.fstat(self._file)
        try:
            there = os.stat(self._path)
        except FileNotFoundError:
            return True
        return (there.st_dev, there.st_ino) != (ours.st_dev, ours.st_ino)


def _opened(path: Path) -> int:
    """Opens the file with access for its owner only, even if another program created it. Raises OSError."""
    descriptor = os.open(path, os.O_CREAT | os.O_APPEND | os.O_WRONLY | os.O_CLOEXEC, 0o600)
    mode = os.fstat(descriptor).st_mode
    if stat.S_ISREG(mode) and stat.S_IMODE(mode) != 0o600:
        try:
            os.fchmod(descriptor, 0o600)
        except OSError:
            os.close(descriptor)
            raise
    return descriptor
