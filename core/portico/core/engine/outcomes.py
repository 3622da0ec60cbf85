"""What an agent's own mistakes are called, wherever it runs."""

import os
import traceback

from portico.agent import AgentError, Error, Rejection, Status


def failed(error: BaseException) -> tuple[Status, Error]:
    """How a run ends whose agent raised this; also SystemExit, which ends the run and nothing else."""
    if isinstance(error, Rejection):
        return Status.REJECTED, Error(error.code, error.reason)
    told = error if isinstance(error, AgentError) else unknown(error)
    return Status.FAILED, Error(told.code, told.message)


def unknown(error: BaseException) -> AgentError:
    """An exception that is not of our kinds, as one that is."""
    message = f"Unknown agent error: {type(error).__name__}: {_words(error)}"
    return AgentError(message, code="AGENT_UNKNOWN_ERROR")


def not_to_be_yielded(item: object) -> TypeError:
    """Names what a query function may yield."""
    kind = type(item).__name__
    return TypeError(f"a query function may yield str, dict, or what portico.agent builds, not {kind}")


def in_short(error: BaseException, file: str) -> str:
    """An exception of an author's code on one line, with the last line of the author's file on its way."""
    words = " ".join(_words(error).split())
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


def _words(error: BaseException) -> str:
    try:
        return str(error)
    except Exception:
        return "(its words can't be read)"
