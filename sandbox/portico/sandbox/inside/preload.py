"""Imports modules before a sandbox exists, in the process that it is forked from."""

import importlib
import os
import time
from collections.abc import Iterable
from typing import Final

from .calls import Failure

_PATIENCE: Final = 0.5  # seconds for ending threads to exit


def load(names: Iterable[str]) -> None:
    """Imports modules. Raises Failure with the name of a module that cannot be imported, or that leaves
    threads or processes running: a fork has none of these, and locks that they hold would stay locked."""
    for name in names:
        try:
            importlib.import_module(name)
        except BaseException as error:
            raise Failure("invalid", f"preload: {name}: {type(error).__name__}") from error
        left = _left()
        if left:
            raise Failure("invalid", f"preload: {name}: it leaves {left} running")


def _left() -> str:
    try:
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass  # it has exited
        return "processes"
    except ChildProcessError:
        pass
    until = time.monotonic() + _PATIENCE
    while len(os.listdir("/proc/self/task")) > 1:
        if time.monotonic() > until:
            return "threads"
        time.sleep(0.005)
    return ""
