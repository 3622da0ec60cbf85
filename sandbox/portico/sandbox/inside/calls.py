"""A call as the agent sees it: what it may still send, what it was sent, and how it ends."""

from collections import deque
from collections.abc import Callable
from typing import Any

from . import wire


class Failure(Exception):
    """A call that fails with a reason the owner knows by name."""

    def __init__(self, kind: str, message: str, **details: Any) -> None:
        super().__init__(message)
        self.answer = {"kind": kind, "message": message, **details}


class Call:
    """One open call. `write` sends when credit allows; handlers look at `credit` before they produce more."""

    def __init__(self, number: int, send: Callable[[bytes], None], closed: Callable[[int], None]) -> None:
        self.number = number
        self.credit = wire.WINDOW
        self.ended = False
        self.on_input: Callable[[bytes], None] | None = None  # b"" is the end of the input
        self.on_credit: Callable[[], None] | None = None
        self.on_cancel: Callable[[dict[str, Any]], None] | None = None
        self._early: deque[bytes] = deque()
        self._send = send
        self._closed = closed

    def write(self, data: bytes, kind: int = wire.OUT) -> None:
        """Sends bytes and lowers the credit, which may go below zero by one chunk."""
        if not self.ended and data:
            self.credit -= len(data)
            self._send(wire.pack(self.number, kind, data))

    def announce(self, message: dict[str, Any]) -> None:
        """Opens a call from this side."""
        self._send(wire.pack_json(self.number, wire.CALL, message))

    def event(self, message: dict[str, Any]) -> None:
        if not self.ended:
            self._send(wire.pack_json(self.number, wire.EVENT, message))

    def end(self, **result: Any) -> None:
        if not self.ended:
            self.ended = True
            self._send(wire.pack_json(self.number, wire.END, result))
            self._closed(self.number)

    def fail(self, error: BaseException) -> None:
        if isinstance(error, Failure):
            self.end(error=error.answer)
        elif isinstance(error, OSError):
            kind = {2: "not_found", 20: "not_directory", 21: "is_directory", 17: "exists"}.get(
                error.errno or 0, "os"
            )
            if error.errno in (27, 28):  # EFBIG: one file may be as large as all of them
                self.end(error={"kind": "limit", "limit": "disk", "message": str(error)})
            elif error.errno in (11, 12):
                limit = "pids" if error.errno == 11 else "memory"
                self.end(error={"kind": "limit", "limit": limit, "message": str(error)})
            elif error.errno in (18, 40):  # EXDEV, ELOOP: openat2 tells that the path leads out
                self.end(
                    error={"kind": "invalid_path", "message": "the path leads out of the sandbox's files"}
                )
            else:
                self.end(error={"kind": kind, "message": error.strerror or str(error), "errno": error.errno})
        elif isinstance(error, MemoryError):
            self.end(error={"kind": "limit", "limit": "memory", "message": "out of memory"})
        else:
            self.end(error={"kind": "invalid", "message": f"{type(error).__name__}: {error}"})

    def accept(self, data: bytes) -> None:
        """Takes input that came in; kept until somebody listens."""
        if self.on_input is None:
            self._early.append(data)
        else:
            self.on_input(data)

    def listen(self, callback: Callable[[bytes], None]) -> None:
        self.on_input = callback
        while self._early:
            callback(self._early.popleft())

    def taken(self, size: int) -> None:
        """Gives the owner credit for input that has been used."""
        if not self.ended and size:
            self._send(wire.pack_ack(self.number, size))


def describe(error: BaseException) -> bytes:
    """An error of a worker as JSON, for the owner to read from its standard error."""
    answers: list[bytes] = []
    Call(0, answers.append, lambda _number: None).fail(error)
    return answers[0][wire.HEADER.size :]
