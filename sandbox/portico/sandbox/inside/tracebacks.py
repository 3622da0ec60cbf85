"""Formats the exception of a cell: with the frames of the cell and of libraries, without the kernel's."""

import errno
import os
import sys
import traceback
from typing import Any, Final, NoReturn

from . import scratch, streams

_CELL: Final = "<cell "
_MOST_NAME: Final = 1_000  # characters
_MOST_MESSAGE: Final = 10_000  # characters
_MOST_TRACEBACK: Final = 100_000


def describe(problem: BaseException) -> dict[str, Any]:
    """Returns the name, message and traceback of an exception, and which limit of the sandbox caused it."""
    try:
        told = traceback.TracebackException(type(problem), problem, problem.__traceback__, compact=True)
        _leave_out_kernel(told)
        lines, message = list(told.format()), str(problem)
    except BaseException:  # the exception's own __str__ may raise anything
        lines, message = [f"{type(problem).__name__}\n"], ""
    return {
        "name": type(problem).__name__[:_MOST_NAME],
        "message": message[:_MOST_MESSAGE],
        "traceback": "".join(lines)[-_MOST_TRACEBACK:],
        "limit": _limit_of(problem),
    }


_HERE: Final = describe.__code__.co_filename.rpartition("/")[0] + "/"


def _leave_out_kernel(top: traceback.TracebackException) -> None:
    """Drops the frames of the kernel and of IPython, and those before a cell's first one, from an exception
    and its causes."""
    ours = [_HERE]
    if "IPython" in sys.modules:
        ours.append(str(sys.modules["IPython"].__file__).rpartition("/")[0] + "/")
    hidden = tuple(ours)
    rest: list[traceback.TracebackException | None] = [top]
    while rest:
        told = rest.pop()
        if told is None:
            continue
        names = [frame.filename for frame in told.stack]
        first = next((number for number, name in enumerate(names) if name.startswith(_CELL)), None)
        if first is None and told.exc_type is not None and issubclass(told.exc_type, SyntaxError):
            first = len(names)  # of the cell itself: only its compiler has run
        told.stack[:] = [frame for frame in told.stack[first or 0 :] if not frame.filename.startswith(hidden)]
        rest += [told.__cause__, told.__context__, *(told.exceptions or ())]


def _limit_of(problem: BaseException) -> str | None:
    """Returns which limit of the sandbox made the cell fail, as far as the exception shows."""
    if isinstance(problem, MemoryError):
        return "memory"
    if isinstance(problem, OSError) and problem.errno == errno.ENOSPC:
        return "inodes" if scratch.lacks_inodes() else "disk"
    if isinstance(problem, BlockingIOError) or (
        isinstance(problem, RuntimeError) and "start new thread" in str(problem)
    ):
        return "pids"
    return None


def end_child(problem: BaseException | None) -> NoReturn:
    """Ends a process that a cell has forked and that has reached the cell's end, as a program would end."""
    code: object = 0
    if isinstance(problem, SystemExit):
        code = 0 if problem.code is None else problem.code
    elif problem is not None:
        code = describe(problem)["traceback"].rstrip("\n")
    if not isinstance(code, int):
        print(code, file=sys.stderr)
        code = 1
    streams.flush()
    os._exit(code & 0xFF)
