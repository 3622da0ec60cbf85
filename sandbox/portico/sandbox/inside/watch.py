"""Reports changes below a directory to a call, by inotify."""

import os
import struct
import time
from collections import deque
from collections.abc import Generator
from typing import Any, Final

from . import linux, paths
from .calls import Call
from .loop import READ, WRITE, Loop

_EVENT: Final = struct.Struct("iIII")
_MODIFY, _MOVED_FROM, _MOVED_TO, _CREATE, _DELETE, _OVERFLOW = 0x2, 0x40, 0x80, 0x100, 0x200, 0x4000
_DIRECTORY: Final = 0x40000000
_MASK: Final = 0x8 | _MOVED_FROM | _MOVED_TO | _CREATE | _DELETE | _MODIFY
_KINDS: Final = {_CREATE: "created", _DELETE: "removed", _MOVED_FROM: "removed", _MOVED_TO: "created"}
_MAX_DIRECTORIES: Final = 4096
_TURN: Final = 0.002  # seconds of work before other calls are served


class Watch:
    """Serves one call. While its owner does not read, changes are dropped; one `overflow` replaces them as
    soon as it reads again.
    """

    def __init__(self, loop: Loop, call: Call, request: dict[str, Any]) -> None:
        self._loop, self._call = loop, call
        self._top = request["path"].rstrip("/") or "."
        self._recursive = bool(request.get("recursive"))
        self._watched: dict[int, str] = {}
        self._waiting: deque[tuple[str, bool]] = deque()  # directories to add, and whether they are new
        self._steps: Generator[None, None, None] | None = None
        self._missed = self._ready = False
        self._fd = linux.inotify_init()
        self._turn = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)  # always writable
        try:
            os.close(self._add(self._top))
        except BaseException:
            self._close()
            raise
        call.on_cancel = self._cancel
        call.on_credit = self._tell_missed
        loop.watch(self._fd, READ, self._changed)
        self._wait_for(self._top, fresh=False)
        self._add_more()

    def _cancel(self, _request: dict[str, Any]) -> None:
        self._close()
        self._call.end()

    def _close(self) -> None:
        if self._steps is not None:
            self._steps.close()
        for fd in (self._fd, self._turn):
            self._loop.forget(fd)
            os.close(fd)

    def _tell(self, kind: str, path: str, *, directory: bool = False) -> None:
        if self._call.credit > 0 and not self._missed:
            self._call.event({"type": kind, "path": path, "directory": directory})
        else:
            self._missed = True

    def _tell_missed(self) -> None:
        if self._missed:
            self._missed = False
            self._call.event({"type": "overflow", "path": self._top})

    def _add(self, path: str) -> int:
        """Watches a directory and returns its descriptor."""
        directory = paths.open_directory(path)
        try:
            self._watched[linux.inotify_add(self._fd, f"/proc/self/fd/{directory}", _MASK)] = path
        except BaseException:
            os.close(directory)
            raise
        return directory

    def _adding(self) -> Generator[None, None, None]:
        """Watches the waiting directories and those below them, in steps. Reports entries that a new
        directory had before it was watched; a few entries may be reported twice.
        """
        while self._waiting:
            path, fresh = self._waiting.popleft()
            if len(self._watched) >= _MAX_DIRECTORIES:
                self._waiting.clear()
                self._missed = True
                return
            try:
                yield from self._look(self._add(path), path, fresh)
            except OSError:
                continue  # removed meanwhile

    def _look(self, directory: int, path: str, fresh: bool) -> Generator[None, None, None]:
        try:
            with os.scandir(directory) as entries:
                for entry in entries:
                    yield
                    is_directory = entry.is_dir(follow_symlinks=False)
                    if fresh:
                        self._tell("created", f"{path}/{entry.name}", directory=is_directory)
                    if is_directory:
                        self._wait_for(f"{path}/{entry.name}", fresh)
        finally:
            os.close(directory)

    def _wait_for(self, path: str, fresh: bool) -> None:
        if self._recursive:
            if len(self._waiting) < _MAX_DIRECTORIES:
                self._waiting.append((path, fresh))
            else:
                self._missed = True

    def _add_more(self, _events: int = 0) -> None:
        until = time.monotonic() + _TURN
        while time.monotonic() < until:
            if self._steps is None:
                self._steps = self._adding()
            if next(self._steps, self) is self:
                self._steps = None
                if not self._waiting:
                    break
        else:
            self._loop.watch(self._turn, WRITE, self._add_more)
            return
        self._loop.forget(self._turn)
        if not self._ready:
            self._ready = True
            self._call.event({"type": "ready", "path": self._top})
        if self._call.credit > 0:
            self._tell_missed()

    def _changed(self, _events: int) -> None:
        data = os.read(self._fd, 64 << 10)
        place = 0
        while place < len(data):
            descriptor, mask, _, size = _EVENT.unpack_from(data, place)
            name = os.fsdecode(data[place + _EVENT.size : place + _EVENT.size + size].rstrip(b"\0"))
            place += _EVENT.size + size
            if mask & _OVERFLOW:
                self._missed = True
            elif descriptor in self._watched and name:
                path = f"{self._watched[descriptor]}/{name}"
                kind = next((word for bit, word in _KINDS.items() if mask & bit), "modified")
                self._tell(kind, path, directory=bool(mask & _DIRECTORY))
                if self._recursive and kind == "created" and mask & _DIRECTORY:
                    self._wait_for(path, True)
        self._add_more()
