"""Hooks that modules register around forks for the sake of other threads: they free locks that these held.

Such a hook writes on many pages of a process just forked. While there is one thread, none has anything to do.
"""

import _thread
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Final

_Hook = Callable[[], Any]
_before: Final[list[_Hook]] = []  # the youngest first
_in_parent: Final[list[_Hook]] = []
_in_child: Final[list[_Hook]] = []
_threads = False  # whether there are several, at the fork that is under way
_registered = False


@contextmanager
def only_with_threads() -> Iterator[None]:
    """What registers hooks meanwhile has them called in processes with several threads only."""
    register, os.register_at_fork = os.register_at_fork, _keep
    try:
        yield
    finally:
        os.register_at_fork = register


def _keep(
    *, before: _Hook | None = None, after_in_parent: _Hook | None = None, after_in_child: _Hook | None = None
) -> None:
    _before[:0] = [before] if before else []
    _in_parent.extend([after_in_parent] if after_in_parent else [])
    _in_child.extend([after_in_child] if after_in_child else [])


def _fork() -> None:
    global _registered, _threads
    if not _thread._count():
        if _registered:
            _threads = False
        return
    _threads = True
    if not _registered:
        _registered = True
        os.register_at_fork(
            after_in_parent=lambda: _call(_in_parent), after_in_child=lambda: _call(_in_child)
        )
    _call(_before)


def _call(hooks: list[_Hook]) -> None:
    if _threads:
        for hook in hooks:
            hook()


os.register_at_fork(before=_fork)
