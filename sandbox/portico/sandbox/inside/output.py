"""A process and its output: the last part is kept in a ring buffer, which readers follow independently."""

import time
from collections import deque
from collections.abc import Callable
from typing import Any, Final

from .calls import Call

_RING: Final = 1 << 20  # bytes of output kept per process
_WORDS: Final = 32  # words of a command that are reported, and the characters of each
_WORD: Final = 256


class Process:
    """A process that the supervisor has started."""

    def __init__(self, request: dict[str, Any]) -> None:
        self.command: list[str] = request["command"]
        self.tty = request.get("rows") is not None
        self.keep = request["keep"]  # whether it outlives its call
        self.output_limit: int = request["output_bytes"]
        self.pid = 0
        self.code: int | None = None
        self.started = time.time()
        self.ring: deque[tuple[int, int, bytes]] = deque()  # offset, kind, bytes
        self.first = self.end = 0  # offsets of the kept output
        self.pipes: dict[int, int] = {}
        self.stdin = -1
        self.input: deque[tuple[Call, bytes]] = deque()  # with the call that gets credit when it was read
        self.input_ended = False
        self.over = self.cancelled = False
        self.readers: list[Reader] = []
        self.then: Callable[[], None] | None = request.get("then")  # called when it has ended

    def describe(self) -> dict[str, Any]:
        return {
            "pid": self.pid, "command": _shortened(self.command), "tty": self.tty, "exit_code": self.code,
            "started": self.started, "output_start": self.first, "output_end": self.end,
        }  # fmt: skip

    def keep_output(self, data: bytes, kind: int) -> None:
        self.ring.append((self.end, kind, data))
        self.end += len(data)
        while self.end - self.first > _RING and len(self.ring) > 1:
            self.first += len(self.ring.popleft()[2])


def _shortened(command: list[str]) -> list[str]:
    """Returns enough of a command to recognize it."""
    return [word if len(word) <= _WORD else f"{word[:_WORD]}…" for word in command[:_WORDS]]


class Reader:
    """A call that follows a process's output from an offset."""

    def __init__(self, process: Process, call: Call, offset: int) -> None:
        self.process, self.call, self.offset = process, call, offset

    def pump(self) -> None:
        process, call = self.process, self.call
        if self.offset < process.first:
            call.event({"type": "lost", "bytes": process.first - self.offset})
            self.offset = process.first
        for start, kind, data in list(process.ring):
            if call.credit <= 0:
                return
            if start + len(data) > self.offset:
                call.write(data[max(0, self.offset - start) :], kind)
                self.offset = start + len(data)
        if process.code is not None and not process.pipes:
            error: dict[str, Any] = {}
            if process.over:
                error = {"error": {"kind": "limit", "limit": "output", "message": "too much output"}}
            elif process.cancelled:
                error = {"error": {"kind": "cancelled", "message": "killed"}}
            call.end(exit_code=process.code, offset=min(self.offset, process.end), **error)
