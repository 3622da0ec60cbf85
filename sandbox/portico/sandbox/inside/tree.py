"""Process trees inside a sandbox: finds and kills all descendants of a process."""

import os
import signal
from typing import Final

_ROUNDS: Final = 200


def parents() -> dict[int, tuple[int, str]]:
    """Returns the parent and the state letter of each process."""
    table = {}
    for name in os.listdir("/proc"):
        if name.isdigit():
            try:
                with open(f"/proc/{name}/stat", "rb") as file:
                    fields = file.read().rpartition(b")")[2].split()
            except OSError:
                continue  # it has ended
            table[int(name)] = (int(fields[1]), fields[0].decode())
    return table


def below(root: int) -> list[int]:
    """Returns the living descendants of a process."""
    table = parents()
    family = {root}
    size = 0
    while size != len(family):
        size = len(family)
        family.update(pid for pid, (parent, _) in table.items() if parent in family)
    return [pid for pid in family if pid != root and table.get(pid, (0, "Z"))[1] not in "ZX"]


def kill(root: int) -> None:
    """Kills a process and its descendants. The root must be a subreaper. If they fork too fast, all processes
    of the sandbox are killed.

    All are stopped before the first is killed: a stopped process still counts towards the limit, so even a
    fork bomb cannot grow, while each one killed early would make room for another.
    """
    _signal(root, signal.SIGSTOP)  # it stays, so that orphans become its children and can be found
    stopped: set[int] = set()
    for _ in range(_ROUNDS):
        fresh = set(below(root)) - stopped
        if not fresh:
            break
        for pid in fresh:
            _signal(pid, signal.SIGSTOP)
        stopped |= fresh
    else:
        _signal(-1, signal.SIGKILL)  # all processes in the sandbox but this one
    for pid in [*stopped, root]:
        _signal(pid, signal.SIGKILL)


def kill_all() -> bool:
    """Kills all processes in the sandbox but this one, once; False if there were none."""
    try:
        os.kill(-1, signal.SIGKILL)
    except ProcessLookupError:
        return False
    return True


def _signal(pid: int, number: int) -> None:
    try:
        os.kill(pid, number)
    except ProcessLookupError:
        pass  # it has ended
