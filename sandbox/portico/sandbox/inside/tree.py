"""Process trees inside a sandbox: finding and killing everything below a process."""

import os
import signal
from typing import Final

_ROUNDS: Final = 200


def parents() -> dict[int, tuple[int, str]]:
    """Of each living process its parent and its state letter."""
    table = {}
    for name in os.listdir("/proc"):
        if name.isdigit():
            try:
                with open(f"/proc/{name}/stat", "rb") as file:
                    fields = file.read().rpartition(b")")[2].split()
            except OSError:
                continue  # gone meanwhile
            table[int(name)] = (int(fields[1]), fields[0].decode())
    return table


def below(root: int) -> list[int]:
    """The living descendants of a process."""
    table = parents()
    family = {root}
    size = 0
    while size != len(family):
        size = len(family)
        family.update(pid for pid, (parent, _) in table.items() if parent in family)
    return [pid for pid in family if pid != root and table.get(pid, (0, "Z"))[1] not in "ZX"]


def kill(root: int) -> None:
    """Kills a process and all below it. The root must be a subreaper; what forks too fast takes all others.

    All are stopped before the first is killed: a stopped process keeps its place under the limit, so even a
    fork bomb runs out of room to grow, while each one killed early would make room for another.
    """
    _signal(root, signal.SIGSTOP)  # it stays, so that orphans still come to it and can be found
    stopped: set[int] = set()
    for _ in range(_ROUNDS):
        fresh = set(below(root)) - stopped
        if not fresh:
            break
        for pid in fresh:
            _signal(pid, signal.SIGSTOP)
        stopped |= fresh
    else:
        _signal(-1, signal.SIGKILL)  # everything in the sandbox but this process
    for pid in [*stopped, root]:
        _signal(pid, signal.SIGKILL)


def kill_all() -> bool:
    """Kills everything in the sandbox but this process, once; false when there was nothing left."""
    try:
        os.kill(-1, signal.SIGKILL)
    except ProcessLookupError:
        return False
    return True


def _signal(pid: int, number: int) -> None:
    try:
        os.kill(pid, number)
    except ProcessLookupError:
        pass  # it has ended by itself
