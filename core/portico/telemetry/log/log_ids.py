"""Context variables with the request, run and agent that a log line belongs to."""

from contextvars import ContextVar

MAX_CHARACTERS = 128  # longest logged part of an id that a caller chose

request_id: ContextVar[str] = ContextVar("portico request", default="")
run_id: ContextVar[str] = ContextVar("portico run", default="")
agent: ContextVar[str] = ContextVar("portico agent", default="")  # the agent whose code is executing


def readable(id: str) -> str:
    """Makes a caller's id safe for the log: one line, limited length."""
    return id[:MAX_CHARACTERS] if id.isprintable() else ""
