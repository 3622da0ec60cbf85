"""What a cell raised, as text for its reader: the cell's frames and those of libraries, not the kernel's."""

import traceback
from typing import Any, Final

_CELL: Final = "<cell "
_MOST_NAME: Final = 1_000  # characters
_MOST_MESSAGE: Final = 10_000  # characters
_MOST_TRACEBACK: Final = 100_000


def describe(problem: BaseException) -> dict[str, Any]:
    """Its name, message and traceback."""
    try:
        told = traceback.TracebackException(type(problem), problem, problem.__traceback__, compact=True)
        _leave_out_kernel(told)
        lines, message = list(told.format()), str(problem)
    except Exception:  # an exception whose own __str__ fails
        lines, message = [f"{type(problem).__name__}\n"], ""
    return {
        "name": type(problem).__name__[:_MOST_NAME],
        "message": message[:_MOST_MESSAGE],
        "traceback": "".join(lines)[-_MOST_TRACEBACK:],
    }


_HERE: Final = describe.__code__.co_filename.rpartition("/")[0] + "/"


def _leave_out_kernel(top: traceback.TracebackException) -> None:
    """Drops the kernel's own frames, and what comes before a cell's first, of the error and of its causes."""
    rest: list[traceback.TracebackException | None] = [top]
    while rest:
        told = rest.pop()
        if told is None:
            continue
        first = next((n for n, frame in enumerate(told.stack) if frame.filename.startswith(_CELL)), None)
        outer = len(told.stack) if first is None and told is top else first or 0
        told.stack[:] = [frame for frame in told.stack[outer:] if not frame.filename.startswith(_HERE)]
        rest += [told.__cause__, told.__context__, *(told.exceptions or ())]
