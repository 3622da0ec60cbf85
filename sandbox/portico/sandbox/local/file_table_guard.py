"""Keeps sandboxes from filling the machine's table of open files.

No limit covers the open files of a sandbox as a whole: each process may have some, and each mapping of a file
keeps one open. The kernel charges their memory to the sandbox, half a KiB each, but the table (fs.file-max)
has one entry per 10 KiB of the machine's memory. When it is full, only root can open a file.
"""

import asyncio
import logging
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final

from portico.sandbox import errors
from portico.sandbox.local.local_sandbox import LocalBox

log = logging.getLogger(__name__)

TABLE: Final = Path("/proc/sys/fs/file-nr")
_FULL: Final = 0.75  # share of the table in use above which a sandbox is ended
_FILLING: Final = 0.25  # share above which it is checked often
_OFTEN, _SELDOM = 0.1, 1.0  # seconds
_LEAST: Final = 256  # least bytes of kernel memory per open file
_SHARE: Final = 16  # a sandbox with less than this part of the table (1/16) is never ended


async def guard(boxes: Callable[[], Sequence[LocalBox]]) -> None:
    """Ends the sandbox that uses most kernel memory while the table is nearly full. Runs until it is
    cancelled."""
    pause = _SELDOM
    while True:
        await asyncio.sleep(pause)
        used, _free, most = map(int, TABLE.read_text().split())
        pause = _OFTEN if used > _FILLING * most else _SELDOM
        if used < _FULL * most:
            continue
        sizes = [(box.group.kernel_bytes() or 0, box) for box in boxes() if box.gone is None]
        size, worst = max(sizes, key=lambda one: one[0], default=(0, None))
        if worst is not None and size // _LEAST * _SHARE >= most:
            log.warning("sandbox %s is ended: %d of %d open files are in use", worst.id, used, most)
            message = f"sandbox {worst.id} was ended: it held too many of the machine's open files"
            worst.gone = errors.SandboxGone(message, "killed")
            worst.kill()
