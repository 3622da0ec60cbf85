"""Executes code as the call of a principal."""

from collections.abc import Iterator
from contextlib import contextmanager

from portico.core.services.rpc import current_principal
from portico.model.identity import Principal


@contextmanager
def calling(who: Principal) -> Iterator[None]:
    """Sets the principal inside the block, and in tasks that start there."""
    token = current_principal._calling.set(who)
    try:
        yield
    finally:
        current_principal._calling.reset(token)
