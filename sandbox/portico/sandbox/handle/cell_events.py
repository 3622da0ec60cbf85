"""Decodes the events of a cell from the supervisor's frames. A protocol violation ends the sandbox."""

from functools import partial
from typing import Final

from portico.sandbox import errors
from portico.sandbox.events import CellEnd, CellError, CellEvent, CellInput, Rich, Stderr, Stdout
from portico.sandbox.handle.call import Call
from portico.sandbox.handle.replies import Reply
from portico.sandbox.inside import wire

_LINE: Final = 60_000  # bytes of an answer to input()


def read_event(call: Call, kind: int, payload: bytes, allow_input: bool) -> CellEvent:
    """Decodes one event. Raises SandboxGone for a frame that a cell cannot send."""
    if kind == wire.OUT:
        return Stdout(payload)
    if kind == wire.ERR:
        return Stderr(payload)
    if kind == wire.EVENT and allow_input:
        told = call.read(payload)
        if told.text("type") == "input":
            answer = partial(_answer, call)
            return CellInput(told.text("prompt", wire.PROMPT), told.flag("password"), answer)
    if kind != wire.RICH:
        raise call.broken("unexpected event of a cell")
    try:
        role, forms = wire.unpack_rich(payload)
    except wire.BadFrame as error:
        raise call.broken(str(error)) from None
    return Rich(forms, role == "result")


def read_count(result: Reply) -> int:
    """Returns the execution count of the cell."""
    return result.number("count", high=(1 << 31) - 1, default=0)


def read_end(result: Reply, timeout: errors.SandboxTimeout | None) -> CellEnd:
    """Decodes the end of a cell whose kernel survived. `timeout` is set if the cell was interrupted at its
    deadline. Raises SandboxGone."""
    error = None
    if result.has("error"):
        told = result.inner("error")
        error = CellError(
            told.text("name"),
            told.text("message", 10_000),
            told.text("traceback", 100_000),
            told.text("limit", 50, default="") or None,
        )
    failure: errors.SandboxError | None = timeout
    if failure is None and result.has("limit"):
        failure = errors.LimitExceeded("too much output", "output")
    elif failure is None and result.has("dropped"):
        forms = ", ".join(result.texts("dropped"))
        failure = errors.LimitExceeded(f"too large to display: {forms}", "output")
    return CellEnd(read_count(result), error, failure)


async def _answer(call: Call, text: str | None) -> None:
    """Sends a line to input(). A line that arrives too late is dropped. Raises InvalidRequest for a line that
    is too long."""
    line = b"" if text is None else text.encode(errors="replace") + b"\n"
    if len(line) > _LINE:
        raise errors.InvalidRequest(f"input: {len(line)} bytes, the limit of a line is {_LINE}")
    if text is None:
        call.end_input()
    else:
        await call.send(line)
