"""Fork hooks that modules register for multithreaded processes, where they release locks of other threads.

Such a hook writes to many pages of a forked process. In a process with one thread it has nothing to do.
"""

from __future__ import annotations

import _thread
import os

TYPE_CHECKING = False  # as in typing, which is one of the modules to be loaded separately
if TYPE_CHECKING:
    from collections.abc import Callable

    Hook = Callable[[], object]

_before: list[Hook] = []  # newest first
_in_parent: list[Hook] = []
_in_child: list[Hook] = []
_threads = False  # whether the process has several threads, at the current fork
_registered = False


class OnlyWithThreads:
    """A context manager: hooks that are registered in it run only in processes with several threads."""

    def __enter__(self) -> None:
        self._register, os.register_at_fork = os.register_at_fork, _keep

    def __exit__(self, *_: object) -> None:
        os.register_at_fork = self._register


def _keep(
    *, before: Hook | None = None, after_in_parent: Hook | None = None, after_in_child: Hook | None = None
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


def _call(hooks: list[Hook]) -> None:
    if _threads:
        for hook in hooks:
            hook()


os.register_at_fork(before=_fork)
