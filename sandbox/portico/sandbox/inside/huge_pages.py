"""Moves the interpreter's machine code, and the memory that a zygote shares with its forks, to huge pages.

Otherwise every fork maps the interpreter's file page by page, on demand, and unmaps as many pages at its
exit. In huge pages, 2 MiB of code take one entry of the page tables, which a fork copies: a sandbox's first
cell is 0 to 7 % earlier, a checkpoint and an end take a tenth less time.
"""

import ctypes
import errno
import os
from typing import Final

from . import linux

_PAGE: Final = os.sysconf("SC_PAGE_SIZE")
_TRIES: Final = 3
HUGE: Final = _PAGE * _PAGE // 8  # bytes: a page full of entries of eight bytes


def take_code() -> int:
    """Moves as much as possible of the running code and returns the number of bytes; 0 where the machine has
    no huge pages, forbids them, or has another memory layout. Only for a process with one thread."""
    start, end = _aligned(*_code())
    if end <= start:
        return 0
    size = end - start
    room = linux.mmap_anonymous(size + HUGE)
    copy = -(-room // HUGE) * HUGE
    try:
        ctypes.memmove(copy, start, size)
        linux.collapse(copy, size)
        linux.mprotect(copy, size, linux.PROT_READ | linux.PROT_EXEC)
        linux.mremap_onto(copy, size, start)
    except OSError:
        size = 0
    linux.munmap(room, end - start + HUGE)  # what is left of it
    return size


def take_data() -> int:
    """Moves memory to huge pages where possible and returns the number of bytes.

    A fork spends most of its time copying page tables, which have an entry per used page. When a process
    writes to a huge page, the kernel splits it into small ones and copies one of these.
    """
    taken = 0
    with open("/proc/self/maps") as table:
        lines = table.read().splitlines()
    for line in lines:
        span, access, _, _, inode, *path = line.split(maxsplit=5)
        if access == "rw-p" and inode == "0" and path in ([], ["[heap]"]):
            start, end = _aligned(*(int(number, 16) for number in span.split("-")))
            for place in range(start, end, HUGE):
                if linux.pages_in_memory(place, HUGE) * _PAGE < HUGE // 8:
                    continue  # a huge page would take more memory than it saves
                taken += HUGE * _collapse(place)
    return taken


def _collapse(place: int) -> bool:
    """Whether the page is a huge page now. It cannot be while another process holds one of its small
    pages."""
    for _ in range(_TRIES):
        try:
            linux.collapse(place, HUGE)
            return True
        except OSError as error:
            if error.errno != errno.EAGAIN:
                break  # the machine has no huge pages
    return False


def _code() -> tuple[int, int]:
    """Returns the bounds of the readable mapping of the file that contains the interpreter's code."""
    known = ctypes.cast(ctypes.pythonapi.Py_IncRef, ctypes.c_void_p).value or 0
    spans: list[tuple[int, int, str]] = []
    with open("/proc/self/maps") as table:
        for line in table:
            span, access, _, _, _, *path = line.split(maxsplit=5)
            start, end = (int(number, 16) for number in span.split("-"))
            name = path[0].strip() if path and access in ("r-xp", "r--p") else ""
            if spans and spans[-1][1:] == (start, name):
                start = spans.pop()[0]
            spans.append((start, end, name))
    return next(((start, end) for start, end, name in spans if name and start <= known < end), (0, 0))


def _aligned(start: int, end: int) -> tuple[int, int]:
    return -(-start // HUGE) * HUGE, end // HUGE * HUGE
