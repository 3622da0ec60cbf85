"""Errors of agents: how exceptions of an author's code end a run, and how they are described."""

import os
import traceback

from portico.agent import AgentError, Error, Rejection, Status


def failure_status(error: Rejection | AgentError) -> tuple[Status, Error]:
    """The status and the error of a run whose agent raised this."""
    if isinstance(error, Rejection):
        return Status.REJECTED, Error(error.code, error.reason)
    return Status.FAILED, Error(error.code, error.message)


def unknown_agent_error(error: BaseException, told: str) -> AgentError:
    """The error for an exception that is not one of Portico's, SystemExit included.

    Args:
        error: The exception.
        told: Its text as callers may see it.
    """
    return AgentError(f"Unknown agent error: {type(error).__name__}: {told}", code="AGENT_UNKNOWN_ERROR")


def unsupported_item_error(item: object) -> TypeError:
    """The error for an item that a query function may not yield; names the allowed types."""
    kind = type(item).__name__
    return TypeError(f"a query function may yield str, dict or a type of portico.agent, not {kind}")


def short_traceback(error: BaseException, file: str) -> str:
    """Describe an exception of an author's code on one line, with the last line of the author's file."""
    words = " ".join(exception_text(error).split())
    kind = type(error).__name__
    frames = traceback.extract_tb(error.__traceback__)
    own = [frame for frame in frames if file and frame.filename == file]
    if isinstance(error, SyntaxError) and error.filename is not None:
        where = ""  # its text names the place
    elif place := (own or frames)[-1:]:
        where = f" ({os.path.basename(place[0].filename)}, line {place[0].lineno})"
    else:
        where = ""
    return f"{kind}: {words}{where}" if words else f"{kind}{where}"


def exception_text(error: BaseException) -> str:
    """The text of an exception, also if its __str__ raises."""
    try:
        return str(error)
    except Exception:
        return "(its text cannot be read)"
