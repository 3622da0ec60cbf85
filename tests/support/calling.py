"""Code that runs as somebody's call."""

from collections.abc import Iterator
from contextlib import contextmanager

from portico.core.services import caller
from portico.model.identity import Principal


@contextmanager
def calling(who: Principal) -> Iterator[None]:
    """Within it, and in tasks that begin there, that is the caller."""
    token = caller._calling.set(who)
    try:
        yield
    finally:
        caller._calling.reset(token)
