"""Captures standard error as log records, for JSON logs: output of gRPC's C core, print(), libraries,
children.

The descriptor becomes a pipe; a thread reads it and logs each line. The log itself, and the stack of a crash,
go to the original standard error. With JSON logs each line must be an object.
"""

import atexit
import faulthandler
import fcntl
import logging
import os
import re
import sys
import threading
from contextlib import suppress
from typing import Any, TextIO

import orjson

from portico.telemetry.log.log_ids import WITH_WORDS
from portico.telemetry.log.retry_log import RetryLog

log = logging.getLogger("stderr")
log.setLevel(logging.DEBUG)  # captured lines are never left out
errors = logging.getLogger("portico.process")

PIPE_BYTES = 1 << 20  # large, because a thread that blocks on the pipe may hold the interpreter's lock
LINE_BYTES = 64 * 1024  # a longer line is split
END_SECONDS = 0.5  # longest wait for the last lines; child processes may keep the pipe open
_GRPC = re.compile(r"([IWEF])\d{4} \d\d:\d\d:\d\d\.\d+ +\d+ ([\w./-]+:\d+)\] (.*)")
_LEVELS = {"I": logging.INFO, "W": logging.WARNING, "E": logging.ERROR, "F": logging.CRITICAL}
_PLACES = 1000  # most places in gRPC's code to remember; it has fewer


class StandardError:
    """The pipe and its thread, from creation until `release`."""

    def __init__(self) -> None:
        self.stream: TextIO = os.fdopen(os.dup(2), "w", encoding="utf-8", errors="replace", buffering=1)
        self._before = self.stream.fileno()
        self._places: dict[str, RetryLog] = {}
        reads, writes = os.pipe()
        with suppress(OSError, AttributeError):  # a smaller pipe if the kernel refuses the size
            fcntl.fcntl(writes, fcntl.F_SETPIPE_SZ, PIPE_BYTES)
        os.dup2(writes, 2)
        os.close(writes)
        if faulthandler.is_enabled():
            faulthandler.enable(self.stream)
        logging.captureWarnings(True)
        sys.excepthook = _uncaught
        threading.excepthook = _uncaught_in_thread
        sys.unraisablehook = _unraisable
        self._thread = threading.Thread(target=self._read, args=(reads,), name="portico-stderr", daemon=True)
        self._thread.start()
        atexit.register(self.release)

    def release(self) -> None:
        """Restores standard error. Blocks until everything written is logged, at most END_SECONDS."""
        with suppress(OSError, ValueError):
            sys.stderr.flush()
        os.dup2(self._before, 2)
        self._thread.join(END_SECONDS)

    def _read(self, pipe: int) -> None:
        """Body of the thread; runs until the pipe's other end is closed."""
        rest = b""
        while piece := os.read(pipe, LINE_BYTES):
            *lines, rest = (rest + piece).split(b"\n")
            if len(rest) >= LINE_BYTES:
                lines, rest = [*lines, rest], b""
            for line in lines:
                self._tell(line)
        self._tell(rest)
        os.close(pipe)

    def _tell(self, line: bytes) -> None:
        text = line.decode(errors="replace").strip()
        if not text:
            return
        if _is_logged(text):
            with suppress(OSError, ValueError):  # standard error has no reader any more
                self.stream.write(f"{text}\n")
        elif found := _GRPC.fullmatch(text):
            self._tell_grpc(*found.groups())
        else:
            log.warning("%s", text)

    def _tell_grpc(self, level: str, place: str, words: str) -> None:
        """Logs a line of gRPC, limited per place in gRPC's code: a peer could cause a line per attempt."""
        if place not in self._places and len(self._places) == _PLACES:
            return
        rarely = self._places.setdefault(place, RetryLog())
        before = rarely.left_out
        if rarely.due():
            rarely.left_out = 0
            more = f"; {before} more such lines since the last one" if before else ""
            logging.getLogger("grpc").log(_LEVELS[level], "%s (%s)%s", words, place, more)


_taken: StandardError | None = None


def redirect_to_log() -> TextIO:
    """Starts the capture, once per process; returns the stream to log to."""
    global _taken
    if _taken is None:
        _taken = StandardError()
    return _taken.stream


def original() -> int:
    """Descriptor of the original standard error, for child processes that log by themselves."""
    return 2 if _taken is None else _taken.stream.fileno()


def release() -> None:
    """Logs everything written so far; call it before the process ends without Python's own shutdown."""
    if _taken is not None:
        _taken.release()


def _is_logged(text: str) -> bool:
    """Whether the text is a JSON log line already, from a child process."""
    if not text.startswith("{"):
        return False
    try:
        return isinstance(orjson.loads(text), dict)
    except orjson.JSONDecodeError:
        return False


def _uncaught(kind: type[BaseException], error: BaseException, trace: Any) -> None:
    if issubclass(kind, KeyboardInterrupt):
        return
    about = {WITH_WORDS: True}
    errors.critical("this process ends with an exception", exc_info=(kind, error, trace), extra=about)


def _uncaught_in_thread(about: threading.ExceptHookArgs) -> None:
    if about.exc_value is not None and not isinstance(about.exc_value, SystemExit):
        name = about.thread.name if about.thread is not None else "(ended)"
        errors.error("thread %s ends with an exception", name, exc_info=about.exc_value)


def _unraisable(about: Any) -> None:
    """Logs exceptions that no code can catch, such as those of a finalizer."""
    words = about.err_msg or "an exception is ignored"
    errors.error("%s in %r", words, about.object, exc_info=about.exc_value)
