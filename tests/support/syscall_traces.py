"""The visible remains of a local backend on the machine."""

import asyncio
import os
from pathlib import Path

from portico.sandbox.local.process_owner import MARK, ProcessOwner


def traces(owner: ProcessOwner | None = None) -> set[str]:
    """Returns the processes, control groups and temporary directories of an owner (default: this process)."""
    owner = owner or ProcessOwner.current()
    name = f"portico-{owner.name}"
    # The walk skips files that others remove meanwhile.
    found = {f"{folder}/{name}" for folder, below, _ in os.walk("/sys/fs/cgroup") if name in below}
    for pid in filter(str.isdigit, os.listdir("/proc")):
        try:
            words = Path(f"/proc/{pid}/cmdline").read_bytes()
        except OSError:
            continue
        if f"{MARK}{owner.name}".encode() in words:
            found.add(f"process {pid}")
    return found


async def no_traces(owner: ProcessOwner | None = None, seconds: float = 5) -> bool:
    for _ in range(int(seconds / 0.05)):
        if not traces(owner):
            return True
        await asyncio.sleep(0.05)
    return False
