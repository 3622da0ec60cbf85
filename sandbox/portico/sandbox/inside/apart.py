"""Loads rarely used code into memory separate from other objects.

A fork copies the page tables of all shared memory, which takes most of its time. Huge pages make this cheap
until a process writes to one: then the kernel splits it into small pages. So rarely used code must not lie
among objects that every sandbox writes to.
"""

from __future__ import annotations

import _thread
import ctypes
import gc
import importlib
import os
import time

TYPE_CHECKING = False  # as in typing, which is one of the modules to be loaded separately
if TYPE_CHECKING:
    from collections.abc import Callable

_DOMAINS = (1, 2)  # PYMEM_DOMAIN_MEM and PYMEM_DOMAIN_OBJ
_RAW = 0  # PYMEM_DOMAIN_RAW
_STACK = 2 << 20  # bytes; the C library keeps it for the next thread
_BLOCK = 96 << 10  # bytes; the C library maps much larger ones by themselves
_HUGE = (2 << 20) // _BLOCK  # blocks, about a huge page
# Objects between the loaded ones and all others in the garbage collector's list: removing an object writes to
# its neighbours in the list.
_fences: list[list[None]] = []

_libc = ctypes.CDLL(None)
_libc.malloc.argtypes, _libc.malloc.restype = (ctypes.c_size_t,), ctypes.c_void_p
_libc.free.argtypes, _libc.free.restype = (ctypes.c_void_p,), None


class _Allocator(ctypes.Structure):
    """PyMemAllocatorEx; see "Customize Memory Allocators" in CPython's documentation."""

    _fields_ = [(name, ctypes.c_void_p) for name in ("ctx", "malloc", "calloc", "realloc", "free")]


def load(function: Callable[[], object]) -> None:
    """Calls a function in a thread and raises what it raises. The C library gives each thread its own heap,
    at a multiple of 64 MiB, and Python's objects are taken from that heap, too. Only for a process with one
    thread."""
    importlib.import_module("threading")  # it regards the thread that imports it as the main thread
    raised: list[BaseException] = []
    _fences.append([])
    ended = _thread.allocate_lock()
    ended.acquire()

    def run() -> None:
        if len(_fences) == 1:  # the heap begins with its lock, which forks write to
            _take(_HUGE)
        allocators = _redirect()
        try:
            function()
        except BaseException as error:
            raised.append(error)
        finally:
            for domain, allocator in allocators.items():
                ctypes.pythonapi.PyMem_SetAllocator(domain, ctypes.byref(allocator))
            gc.collect()  # also empties Python's free lists
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
    """Allocates blocks of this thread's heap, which are never written to."""
    return [_libc.malloc(_BLOCK) for _ in range(count)]


def _grow() -> None:
    """Leaves room for what is loaded next, up to the end of a huge page. The last block stays allocated;
    otherwise the C library would return all of it."""
    *blocks, _last = _take(2 * _HUGE)
    for address in blocks:
        _libc.free(address)


def _redirect() -> dict[int, _Allocator]:
    """Makes Python allocate objects by `malloc`. Python's own allocator also frees and resizes such objects,
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
