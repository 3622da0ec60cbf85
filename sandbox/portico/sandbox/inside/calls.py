"""A call in the supervisor: its flow-control window, its unprocessed input, and its end."""

import errno
from collections import deque
from collections.abc import Callable
from typing import Any, Final

from . import wire

_SAID: Final = 2_000  # characters of an error message


class Failure(Exception):
    """An error with a kind that the owner translates to an exception type."""

    def __init__(self, kind: str, message: str, **details: Any) -> None:
        super().__init__(message)
        self.answer = {"kind": kind, "message": message, **details}


class Call:
    """One open call. Frames are queued in order while there is no credit; handlers check `credit` before they
    produce more.
    """

    def __init__(self, number: int, send: Callable[[bytes], None], closed: Callable[[int], None]) -> None:
        self.number = number
        self.credit = wire.WINDOW
        self.ended = False
        self.closed = False  # whether the END frame was sent, too
        self.on_input: Callable[[bytes], None] | None = None  # b"" is the end of the input
        self.on_credit: Callable[[], None] | None = None
        self.on_cancel: Callable[[dict[str, Any]], None] | None = None
        self._early: deque[bytes] = deque()
        self._waiting: deque[tuple[int, bytes]] = deque()
        self._send = send
        self._closed = closed

    def write(self, data: bytes, kind: int = wire.OUT) -> None:
        """Sends bytes and reduces the credit, which may become negative by one frame."""
        if self.ended or not data:
            return
        if self.credit > 0:
            self._spend(kind, data)
        else:
            self._waiting.append((kind, data))

    def _spend(self, kind: int, data: bytes) -> None:
        self.credit -= len(data) + wire.OVERHEAD
        self._send(wire.pack(self.number, kind, data))

    def announce(self, message: dict[str, Any]) -> None:
        """Sends the CALL frame of a call to the owner."""
        self._send(wire.pack_json(self.number, wire.CALL, message))

    def event(self, message: dict[str, Any]) -> None:
        self.write(wire.encode(message), wire.EVENT)

    def end(self, **result: Any) -> None:
        if self.ended:
            return
        payload = wire.encode(result)
        if len(payload) > wire.END_BYTES:
            said = f"the answer has {len(payload)} bytes, the limit is {wire.END_BYTES}"
            payload = wire.encode({"error": {"kind": "limit", "limit": "output", "message": said}})
        self.ended = True
        self.on_input = self.on_credit = self.on_cancel = None
        if self._waiting:
            self._waiting.append((wire.END, payload))
        else:
            self._close(payload)

    def _close(self, payload: bytes) -> None:
        self.closed = True
        self._send(wire.pack(self.number, wire.END, payload))
        self._closed(self.number)

    def acknowledged(self, size: int) -> None:
        """Adds credit for bytes that the owner has processed, and sends queued frames."""
        self.credit += size
        while self._waiting and (self.credit > 0 or self._waiting[0][0] == wire.END):
            kind, data = self._waiting.popleft()
            if kind == wire.END:
                self._close(data)
            else:
                self._spend(kind, data)
        if self.credit > 0 and self.on_credit:
            self.on_credit()

    def fail(self, error: BaseException) -> None:
        answer = _failure(error)
        self.end(error={**answer, "message": answer["message"][:_SAID]})

    def accept(self, data: bytes) -> None:
        """Processes received input; it is queued until there is a listener."""
        if self.ended:
            return
        if self.on_input is None:
            self._early.append(data)
        else:
            self.on_input(data)

    def listen(self, callback: Callable[[bytes], None]) -> None:
        self.on_input = callback
        while self._early:
            callback(self._early.popleft())

    def taken(self, size: int) -> None:
        """Grants the owner credit for processed input."""
        if not self.ended and size:
            self._send(wire.pack_ack(self.number, size))


def _failure(error: BaseException) -> dict[str, Any]:
    if isinstance(error, Failure):
        return error.answer
    if isinstance(error, MemoryError):
        return {"kind": "limit", "limit": "memory", "message": "out of memory"}
    if not isinstance(error, OSError):
        return {"kind": "invalid", "message": f"{type(error).__name__}: {error}"}
    number = error.errno or 0
    if number in _LIMITS:
        return {"kind": "limit", "limit": _LIMITS[number], "message": str(error)}
    if number in (errno.EXDEV, errno.ELOOP):  # from openat2: the path leads outside
        return {"kind": "invalid_path", "message": "the path leads out of the sandbox's files"}
    return {"kind": _KINDS.get(number, "os"), "message": error.strerror or str(error)}


_LIMITS: Final = {
    errno.EFBIG: "disk",  # the limit of one file is that of the whole disk
    errno.ENOSPC: "disk",
    errno.EAGAIN: "pids",
    errno.ENOMEM: "memory",
}
_KINDS: Final = {
    errno.ENOENT: "not_found",
    errno.ENOTDIR: "not_directory",
    errno.EISDIR: "is_directory",
    errno.EEXIST: "exists",
}


def describe(error: BaseException) -> bytes:
    """Encodes a worker process's error as JSON for its standard error, which the owner reads."""
    answers: list[bytes] = []
    Call(0, answers.append, lambda _number: None).fail(error)
    return answers[0][wire.HEADER.size :]
