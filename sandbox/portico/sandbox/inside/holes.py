"""Fills holes in the memory of small objects before other processes share it.

What a fork allocates goes into existing holes, which are spread over many pages, and each page that is
written to is copied. Without holes it goes into a few new pages.
"""

from typing import Any, Final

_POOL: Final = 16 << 10  # bytes of one pool of CPython's allocator; its blocks have one size
_FIRST: Final = 48  # the offset of its first block
_SIZES: Final = range(64, 513, 16)  # bytes
_MOST: Final = 4_000  # blocks of one size, in case another allocator is in use
_kept: list[Any] = []


def fill() -> None:
    """Allocates blocks of every size until a new pool is begun for each size, and keeps them."""
    for number in range(_MOST):
        _kept.append(complex(number, 1))  # 32 bytes
        if id(_kept[-1]) % _POOL == _FIRST:
            break
    for size in _SIZES:
        for _ in range(_MOST):
            _kept.append(bytes(size - 33))
            if id(_kept[-1]) % _POOL == _FIRST:
                break
