"""What an agent leaves behind in processes: found by a mark in their environment, which a fork, a new
session and a new program all inherit."""

import os
import signal
import time
from collections.abc import Iterator
from itertools import count
from pathlib import Path

from portico.sandbox.local.owners import Owner, sees_processes

MARK = "PORTICO_WORKER"
ROUNDS = 100  # who forks faster than it is killed is not worth more
ROUND_SECONDS = 0.01
_numbers = count(1)


def new_mark() -> str:
    """The name of the core's process, and a number."""
    return f"{Owner.current().name}-{next(_numbers)}"


def kill_marked(mark: str) -> None:
    """Kill every process with the mark. It blocks for a moment."""
    for _ in range(ROUNDS):
        found = [pid for pid, other in _marked() if other == mark]
        if not found:
            return
        _kill(found)
        time.sleep(ROUND_SECONDS)


def kill_orphans() -> None:
    """Kill what workers of cores of this PID namespace have left that are no more. It blocks for a moment."""
    for mark in {mark for _, mark in _marked()}:
        owner = Owner.parse(mark.rpartition("-")[0])
        if owner is not None and owner.ended():
            kill_marked(mark)


def _kill(pids: list[int]) -> None:
    for pid in pids:
        try:
            os.kill(pid, signal.SIGKILL)
        except ProcessLookupError:
            pass  # it has ended


def _marked() -> Iterator[tuple[int, str]]:
    if not sees_processes():
        return  # the numbers in /proc are not those of this namespace
    sought = f"{MARK}=".encode()
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            environment = (entry / "environ").read_bytes()
        except OSError:
            continue  # somebody else's, or gone
        for variable in environment.split(b"\0"):
            if variable.startswith(sought):
                yield int(entry.name), variable[len(sought) :].decode(errors="replace")
