"""Orphan processes of agents, found by a mark in their environment.

A fork, a new session and a new program all inherit the mark.
"""

import os
import signal
import time
from collections.abc import Iterator
from itertools import count
from pathlib import Path

from portico.sandbox.local.process_owner import ProcessOwner, sees_processes

ENVIRONMENT_MARK = "PORTICO_WORKER"
MAX_KILL_ROUNDS = 100  # bounds the effort against a process that forks faster than it is killed
ROUND_SECONDS = 0.01
_numbers = count(1)


def new_mark() -> str:
    """Return a new mark: the name of the core's process and a number."""
    return f"{ProcessOwner.current().name}-{next(_numbers)}"


def kill_marked(mark: str) -> None:
    """Kill every process with the mark. Blocks for a moment."""
    for _ in range(MAX_KILL_ROUNDS):
        found = [pid for pid, other in _marked() if other == mark]
        if not found:
            return
        _kill(found)
        time.sleep(ROUND_SECONDS)


def kill_orphans() -> None:
    """Kill the orphans of ended cores in this PID namespace. Blocks for a moment."""
    for mark in {mark for _, mark in _marked()}:
        owner = ProcessOwner.parse(mark.rpartition("-")[0])
        if owner is not None and owner.ended():
            kill_marked(mark)


def _kill(pids: list[int]) -> None:
    for pid in pids:
        try:
            os.kill(pid, signal.SIGKILL)
        except ProcessLookupError:
            pass  # the process has ended


def _marked() -> Iterator[tuple[int, str]]:
    if not sees_processes():
        return  # /proc belongs to another PID namespace
    sought = f"{ENVIRONMENT_MARK}=".encode()
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            environment = (entry / "environ").read_bytes()
        except OSError:
            continue  # another user's process, or ended
        for variable in environment.split(b"\0"):
            if variable.startswith(sought):
                yield int(entry.name), variable[len(sought) :].decode(errors="replace")
