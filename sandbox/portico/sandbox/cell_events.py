"""Reads the events of a cell from the agent's frames. A violation of the protocol ends the sandbox."""

from functools import partial
from typing import Final

from portico.sandbox import errors
from portico.sandbox.answers import Answer
from portico.sandbox.channel import Call
from portico.sandbox.events import CellEnd, CellError, CellEvent, CellInput, Rich, Stderr, Stdout
from portico.sandbox.inside import wire

_LINE: Final = 60_000  # bytes of an answer to input()


def read_event(call: Call, kind: int, payload: bytes, allow_input: bool) -> CellEvent:
    """Raises SandboxGone for an event that no cell has."""
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
        raise call.broken("an event that no cell has")
    try:
        role, forms = wire.unpack_rich(payload)
    except wire.BadFrame as error:
        raise call.broken(str(error)) from None
    return Rich(forms, role == "result")


def read_count(result: Answer) -> int:
    """The number of the cell."""
    return result.number("count", high=(1 << 31) - 1, default=0)


def read_end(result: Answer, timeout: errors.SandboxTimeout | None) -> CellEnd:
    """The end of a cell whose kernel lives; `timeout` if its time was over. Raises SandboxGone."""
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
        failure = errors.LimitExceeded(f"too large to be shown: {forms}", "output")
    return CellEnd(read_count(result), error, failure)


async def _answer(call: Call, text: str | None) -> None:
    """Raises InvalidRequest for a line that is too long. An answer that comes too late is dropped."""
    line = b"" if text is None else text.encode(errors="replace") + b"\n"
    if len(line) > _LINE:
        raise errors.InvalidRequest(f"input: {len(line)} bytes, and {_LINE} is the most of a line")
    if text is None:
        call.end_input()
    else:
        await call.send(line)
