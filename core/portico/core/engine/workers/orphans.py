"""What an agent leaves behind in processes: found by a mark in their environment, which a fork, a new
session and a new program all inherit."""

import os
import signal
import time
from collections.abc import Iterator
from itertools import count
from pathlib import Path

MARK = "PORTICO_WORKER"
ROUNDS = 100  # who forks faster than it is killed is not worth more
ROUND_SECONDS = 0.01
_numbers = count(1)


def new_mark() -> str:
    """Whose worker it is, and which: the core's process, since when that runs, and a number."""
    pid = os.getpid()
    return f"{pid}-{_begun(pid)}-{next(_numbers)}"


def kill_marked(mark: str) -> None:
    """Kill every process with the mark. It blocks for a moment."""
    for _ in range(ROUNDS):
        found = [pid for pid, other in _marked() if other == mark]
        if not found:
            return
        _kill(found)
        time.sleep(ROUND_SECONDS)


def kill_orphans() -> None:
    """Kill what workers of cores have left that are no more. It blocks for a moment."""
    gone = set()
    for _, mark in _marked():
        pid, begun, _ = (*mark.split("-"), "", "")[:3]
        if pid.isdigit() and _begun(int(pid)) != begun:
            gone.add(mark)
    for mark in gone:
        kill_marked(mark)


def _kill(pids: list[int]) -> None:
    for pid in pids:
        try:
            os.kill(pid, signal.SIGKILL)
        except ProcessLookupError:
            pass  # it has ended


def _marked() -> Iterator[tuple[int, str]]:
    sought = f"{MARK}=".encode()
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            environment = (entry / "environ").read_bytes()
        except OSError:
            continue  # somebody else's, or gone
        for variable in environment.split(b"\0"):
            if variable.startswith(sought):
                yield int(entry.name), variable[len(sought) :].decode(errors="replace")


def _begun(pid: int) -> str:
    """When the process began, in ticks since the machine did; empty if there is none."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text(encoding="ascii", errors="replace")
    except OSError:
        return ""
    return text.rpartition(")")[2].split()[19]
