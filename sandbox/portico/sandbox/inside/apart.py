"""Loads code into memory apart from the rest: code that few sandboxes run.

A fork copies the page tables of all memory that it shares, and most of its time goes into that. Memory in
huge pages costs next to nothing, until a process writes on it: then the kernel cuts the huge page into small
ones. So what sandboxes rarely use must not lie among objects that every sandbox writes on.
"""

from __future__ import annotations

import _thread
import ctypes
import gc
import importlib
import os
import time

TYPE_CHECKING = False  # as typing has it; that is one of the modules to be loaded apart
if TYPE_CHECKING:
    from collections.abc import Callable

_DOMAINS = (1, 2)  # PYMEM_DOMAIN_MEM and PYMEM_DOMAIN_OBJ
_RAW = 0  # PYMEM_DOMAIN_RAW
_STACK = 2 << 20  # bytes; the C library keeps it for the next thread
_BLOCK = 96 << 10  # bytes; the C library maps much larger ones by themselves
_HUGE = (2 << 20) // _BLOCK  # blocks, about a huge page
# Objects between those that are loaded and all others in the collector's list, for when an object goes, the
# collector writes on its neighbours.
_fences: list[list[None]] = []

_libc = ctypes.CDLL(None)
_libc.malloc.argtypes, _libc.malloc.restype = (ctypes.c_size_t,), ctypes.c_void_p
_libc.free.argtypes, _libc.free.restype = (ctypes.c_void_p,), None


class _Allocator(ctypes.Structure):
    """PyMemAllocatorEx, see CPython's "Customize Memory Allocators"."""

    _fields_ = [(name, ctypes.c_void_p) for name in ("ctx", "malloc", "calloc", "realloc", "free")]


def load(function: Callable[[], object]) -> None:
    """Calls it in a thread. The C library has a heap of its own for each thread, which begins at a multiple
    of 64 MiB, and Python takes its objects from there, too. Raises what it raises. Only for a process with
    one thread."""
    importlib.import_module("threading")  # takes the thread that imports it for the main one
    raised: list[BaseException] = []
    _fences.append([])
    ended = _thread.allocate_lock()
    ended.acquire()

    def run() -> None:
        if len(_fences) == 1:  # what comes first in the heap is its lock, on which forks write
            _take(_HUGE)
        allocators = _redirect()
        try:
            function()
        except BaseException as error:
            raised.append(error)
        finally:
            for domain, allocator in allocators.items():
                ctypes.pythonapi.PyMem_SetAllocator(domain, ctypes.byref(allocator))
            gc.collect()  # empties Python's lists of free objects, too
            _grow()
            ended.release()

    usual = _thread.stack_size(_STACK)
    _thread.start_new_thread(run, ())
    _thread.stack_size(usual)
    ended.acquire()
    while len(os.listdir("/proc/self/task")) > 1:
        time.sleep(0.0005)
    _fences.append([])
    if raised:
        raise raised[0]


def _take(count: int) -> list[int]:
    """Blocks of this thread's heap, which stay untouched."""
    return [_libc.malloc(_BLOCK) for _ in range(count)]


def _grow() -> None:
    """Leaves room for what is loaded next, and up to the end of a huge page. The last block stays taken, or
    the C library would give all back."""
    *blocks, _last = _take(2 * _HUGE)
    for address in blocks:
        _libc.free(address)


def _redirect() -> dict[int, _Allocator]:
    """Lets objects come from `malloc`. Python's own allocator also frees and resizes what came from there,
    unless there are hooks around it."""
    raw = _get(_RAW)
    usual = {domain: _get(domain) for domain in _DOMAINS}
    if any(allocator.ctx for allocator in (raw, *usual.values())):
        return {}
    for domain, own in usual.items():
        mixed = _Allocator(None, raw.malloc, raw.calloc, own.realloc, own.free)
        ctypes.pythonapi.PyMem_SetAllocator(domain, ctypes.byref(mixed))
    return usual


def _get(domain: int) -> _Allocator:
    allocator = _Allocator()
    ctypes.pythonapi.PyMem_GetAllocator(domain, ctypes.byref(allocator))
    return allocator
