"""What the lines of a log belong to: set where it is known, read by whoever writes one."""

from contextvars import ContextVar

MAX_CHARACTERS = 128  # of an id that a caller chose

request_id: ContextVar[str] = ContextVar("portico request", default="")
run_id: ContextVar[str] = ContextVar("portico run", default="")
agent: ContextVar[str] = ContextVar("portico agent", default="")  # whose code runs here


def readable(id: str) -> str:
    """A caller's own id, so that it can't break a line or fill a log."""
    return id[:MAX_CHARACTERS] if id.isprintable() else ""
