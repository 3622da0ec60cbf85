"""Identifies the process that owns sandboxes: by its pid, its start time, and the PID namespace of the pid.

Processes of several PID namespaces can share control groups, containers and temporary files. A process judges
only owners of its own namespace; the start time tells a reused pid from the owner's.
"""

import os
import signal
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Final

from portico.sandbox.inside import linux

MARK: Final = "portico-sandbox-of="


@cache
def pid_namespace_id() -> str:
    """Returns this boot of this machine and this process's PID namespace as a text without hyphens. Empty
    without /proc; then a process judges no owner."""
    try:
        return f"{linux.boot_id().replace('-', '')}.{os.stat('/proc/self/ns/pid').st_ino}"
    except OSError:
        return ""


def sees_processes() -> bool:
    """Whether /proc shows this process's own PID namespace, not an enclosing one."""
    try:
        with open("/proc/self/status") as table:
            ids = next((line.split()[1:] for line in table if line.startswith("NSpid:")), [])
    except OSError:
        return False
    return ids == [str(os.getpid())]


@dataclass(frozen=True, slots=True)
class ProcessOwner:
    """A process that owns sandboxes."""

    pid: int
    started: int  # clock ticks since boot
    place: str = field(default_factory=pid_namespace_id)

    @property
    def name(self) -> str:
        """A text that `parse` reads, for the names of directories and labels."""
        return f"{self.pid}-{self.started}-{self.place}"

    @classmethod
    def current(cls) -> "ProcessOwner":
        """Returns this process."""
        return cls(os.getpid(), _started("self") or 0)

    @classmethod
    def parse(cls, name: str) -> "ProcessOwner | None":
        """Reads a name; None if it is not one."""
        pid, _, rest = name.partition("-")
        started, _, place = rest.partition("-")
        return cls(int(pid), int(started), place) if pid.isdigit() and started.isdigit() and place else None

    def ended(self) -> bool:
        """Whether the process has certainly ended: False for one that this process cannot see."""
        return self.place == pid_namespace_id() and sees_processes() and _started(self.pid) != self.started


def _started(pid: int | str) -> int | None:
    try:
        fields = Path(f"/proc/{pid}/stat").read_bytes().rpartition(b")")[2].split()
    except OSError:
        return None
    return None if fields[0] in (b"Z", b"X") else int(fields[19])


def kill_orphans() -> int:
    """Kills zygotes and sandboxes whose owner has ended; returns the number of killed processes.

    Normally there are none, because a zygote ends with its owner. It kills only processes that have the mark
    in their command line and belong to this user, or to a user id of this user's sandboxes.
    """
    killed = 0
    for entry in os.listdir("/proc"):
        if not entry.isdigit() or int(entry) == os.getpid():
            continue
        try:
            with open(f"/proc/{entry}/cmdline", "rb") as file:
                words = file.read().split(b"\0")
        except OSError:
            continue  # it has ended, or belongs to another user
        mark = next((word for word in words if word.startswith(MARK.encode())), None)
        owner = ProcessOwner.parse(mark[len(MARK) :].decode(errors="replace")) if mark else None
        if owner is None or not owner.ended():
            continue
        try:
            os.kill(int(entry), signal.SIGKILL)
            killed += 1
        except (ProcessLookupError, PermissionError):
            pass  # it has ended, or another user's process carries the mark
    return killed
