"""Which process owns what runs here, told by pid and start time, so that a reused pid deceives nobody."""

import os
import signal
from dataclasses import dataclass
from pathlib import Path
from typing import Final

MARK: Final = "portico-sandbox-of="


@dataclass(frozen=True, slots=True)
class Owner:
    pid: int
    started: int  # clock ticks since boot

    @property
    def name(self) -> str:
        return f"{self.pid}-{self.started}"

    @classmethod
    def current(cls) -> "Owner":
        return cls(os.getpid(), _started(os.getpid()) or 0)

    @classmethod
    def parse(cls, name: str) -> "Owner | None":
        pid, _, started = name.partition("-")
        return cls(int(pid), int(started)) if pid.isdigit() and started.isdigit() else None

    def alive(self) -> bool:
        return _started(self.pid) == self.started


def _started(pid: int) -> int | None:
    try:
        fields = Path(f"/proc/{pid}/stat").read_bytes().rpartition(b")")[2].split()
    except OSError:
        return None
    return None if fields[0] in (b"Z", b"X") else int(fields[19])


def kill_orphans() -> int:
    """Kills the zygotes and sandboxes whose owner is dead; says how many processes it found.

    Normally there are none, because a zygote ends with its owner. What it kills carries the mark on its
    command line and belongs to this user, or to one of the ids that this user's sandboxes have.
    """
    killed = 0
    for entry in os.listdir("/proc"):
        if not entry.isdigit() or int(entry) == os.getpid():
            continue
        try:
            with open(f"/proc/{entry}/cmdline", "rb") as file:
                words = file.read().split(b"\0")
        except OSError:
            continue  # gone, or none of ours
        mark = next((word for word in words if word.startswith(MARK.encode())), None)
        owner = Owner.parse(mark[len(MARK) :].decode(errors="replace")) if mark else None
        if owner is None or owner.alive():
            continue
        try:
            os.kill(int(entry), signal.SIGKILL)
            killed += 1
        except (ProcessLookupError, PermissionError):
            pass  # gone, or somebody else's who borrows our mark
    return killed
