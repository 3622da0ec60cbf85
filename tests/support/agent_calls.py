"""Code that runs as somebody's call."""

from collections.abc import Iterator
from contextlib import contextmanager

from portico.core.services.rpc import current_principal
from portico.model.identity import Principal


@contextmanager
def calling(who: Principal) -> Iterator[None]:
    """Within it, and in tasks that begin there, that is the caller."""
    token = current_principal._calling.set(who)
    try:
        yield
    finally:
        current_principal._calling.reset(token)
