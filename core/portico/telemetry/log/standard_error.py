"""Standard error as lines of the log, whoever writes to it: gRPC's C core, print(), a library, a child.

The descriptor becomes a pipe; a thread reads it and logs each line. The log itself goes to what standard
error was before, and so does the stack of a crash. This is for logs as JSON, of which each line is an object.
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

from portico.telemetry.log.retry_log import Rarely

log = logging.getLogger("stderr")
log.setLevel(logging.DEBUG)  # what others have written is never left out
errors = logging.getLogger("portico.process")

PIPE_BYTES = 1 << 20  # so that a thread that holds the interpreter's lock can write much before it waits
LINE_BYTES = 64 * 1024  # what is longer becomes several lines
END_SECONDS = 0.5  # for the last lines; what is started may keep the pipe open
_GRPC = re.compile(r"([IWEF])\d{4} \d\d:\d\d:\d\d\.\d+ +\d+ ([\w./-]+:\d+)\] (.*)")
_LEVELS = {"I": logging.INFO, "W": logging.WARNING, "E": logging.ERROR, "F": logging.CRITICAL}
_PLACES = 1000  # of gRPC's, of which it has fewer


class StandardError:
    """The pipe, from its making until `release`."""

    def __init__(self) -> None:
        self.stream: TextIO = os.fdopen(os.dup(2), "w", encoding="utf-8", errors="replace", buffering=1)
        self._before = self.stream.fileno()
        self._places: dict[str, Rarely] = {}
        reads, writes = os.pipe()
        with suppress(OSError, AttributeError):  # smaller without the right to so much, or elsewhere
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
        """Standard error is what it was before. Blocks until what was written is logged, for a moment at
        most."""
        with suppress(OSError, ValueError):
            sys.stderr.flush()
        os.dup2(self._before, 2)
        self._thread.join(END_SECONDS)

    def _read(self, pipe: int) -> None:
        """In the thread, until nobody holds the pipe's other end."""
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
            with suppress(OSError, ValueError):  # nobody reads standard error any more
                self.stream.write(f"{text}\n")
        elif found := _GRPC.fullmatch(text):
            self._tell_grpc(*found.groups())
        else:
            log.warning("%s", text)

    def _tell_grpc(self, level: str, place: str, words: str) -> None:
        """Any peer can make gRPC write a line for each of its attempts, all from one place of its code."""
        if place not in self._places and len(self._places) == _PLACES:
            return
        rarely = self._places.setdefault(place, Rarely())
        before = rarely.left_out
        if rarely.due():
            rarely.left_out = 0
            more = f"; {before} more since the last of these lines" if before else ""
            logging.getLogger("grpc").log(_LEVELS[level], "%s (%s)%s", words, place, more)


_taken: StandardError | None = None


def take_over() -> TextIO:
    """Where the log is to go from now on. Does it once in a process."""
    global _taken
    if _taken is None:
        _taken = StandardError()
    return _taken.stream


def original() -> int:
    """The descriptor of what standard error was before, for processes that log by themselves."""
    return 2 if _taken is None else _taken.stream.fileno()


def release() -> None:
    """Log what has been written, before the process ends without Python's own end."""
    if _taken is not None:
        _taken.release()


def _is_logged(text: str) -> bool:
    """Whether it is a line of a log already, of a process that was started by this one."""
    if not text.startswith("{"):
        return False
    try:
        return isinstance(orjson.loads(text), dict)
    except orjson.JSONDecodeError:
        return False


def _uncaught(kind: type[BaseException], error: BaseException, trace: Any) -> None:
    if issubclass(kind, KeyboardInterrupt):
        return
    from portico.telemetry.log.log_setup import WITH_WORDS

    about = {WITH_WORDS: True}
    errors.critical("this process ends with an exception", exc_info=(kind, error, trace), extra=about)


def _uncaught_in_thread(about: threading.ExceptHookArgs) -> None:
    if about.exc_value is not None and not isinstance(about.exc_value, SystemExit):
        name = about.thread.name if about.thread is not None else "that is gone"
        errors.error("thread %s ends with an exception", name, exc_info=about.exc_value)


def _unraisable(about: Any) -> None:
    """What nobody can catch, such as an exception of a finalizer."""
    words = about.err_msg or "an exception is ignored"
    errors.error("%s in %r", words, about.object, exc_info=about.exc_value)
