"""What the core attaches to log records: the ids of their request, run and agent, and marks."""

from contextvars import ContextVar

WITH_WORDS = "portico_with_words"  # record attribute: log the exception's message even without --log-content
MAX_CHARACTERS = 128  # longest logged part of an id that a caller chose

request_id: ContextVar[str] = ContextVar("portico request", default="")
run_id: ContextVar[str] = ContextVar("portico run", default="")
agent: ContextVar[str] = ContextVar("portico agent", default="")  # the agent whose code is executing


def readable(id: str) -> str:
    """Makes a caller's id safe for the log: one line, limited length."""
    return id[:MAX_CHARACTERS] if id.isprintable() else ""
