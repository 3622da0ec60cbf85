"""What an agent's own mistakes are called, wherever it runs."""

import os
import traceback

from portico.agent import AgentError, Error, Rejection, Status


def failed(error: Rejection | AgentError) -> tuple[Status, Error]:
    """How a run ends whose agent raised this."""
    if isinstance(error, Rejection):
        return Status.REJECTED, Error(error.code, error.reason)
    return Status.FAILED, Error(error.code, error.message)


def unknown(error: BaseException, told: str) -> AgentError:
    """An exception that is not of our kinds, also SystemExit, by what callers are told of it."""
    return AgentError(f"Unknown agent error: {type(error).__name__}: {told}", code="AGENT_UNKNOWN_ERROR")


def not_to_be_yielded(item: object) -> TypeError:
    """Names what a query function may yield."""
    kind = type(item).__name__
    return TypeError(f"a query function may yield str, dict, or what portico.agent builds, not {kind}")


def in_short(error: BaseException, file: str) -> str:
    """An exception of an author's code on one line, with the last line of the author's file on its way."""
    words = " ".join(words_of(error).split())
    kind = type(error).__name__
    frames = traceback.extract_tb(error.__traceback__)
    own = [frame for frame in frames if file and frame.filename == file]
    if isinstance(error, SyntaxError) and error.filename is not None:
        where = ""  # its words have the place
    elif place := (own or frames)[-1:]:
        where = f" ({os.path.basename(place[0].filename)}, line {place[0].lineno})"
    else:
        where = ""
    return f"{kind}: {words}{where}" if words else f"{kind}{where}"


def words_of(error: BaseException) -> str:
    """What it says, whatever its __str__ does."""
    try:
        return str(error)
    except Exception:
        return "(its words can't be read)"
