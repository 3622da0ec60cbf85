"""Detects commits that are lost at the end of a SQLite database's write-ahead log.

Each frame of the log has a checksum over all frames before it. SQLite takes the first frame
with a wrong checksum as the end, so it silently drops every commit after a damaged frame.
The file `-shm` beside the log, which writers map into memory, holds the number of the last
committed frame. It outlives the process that wrote it, but the next process to open the
database overwrites it, so this check must come first.

The file is written to disk with a delay, so its content is not reliable after a reboot. The
formats are those of https://www.sqlite.org/walformat.html.
"""

import struct
from array import array
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from operator import mul
from pathlib import Path

from portico.core.stores.sqlite.database_lock import was_opened_since_boot

_VERSION = 3_007_000
_MAGIC = 0x377F0682  # the lowest bit is set if checksums use big-endian words
_WAL_HEADER = struct.Struct(">6I2I")
_FRAME_HEADER = struct.Struct(">2I8s2I")  # page, size of the database after a commit or 0, salts, checksum
_INDEX_HEADER = struct.Struct("=3I2BH2I2I8s2I")  # the file begins with two copies of it
_BACKFILLED = struct.Struct("=I")
_WORD = 0xFFFFFFFF
_TRIES = 5  # a core that writes may restart the log during the check


@dataclass(frozen=True, slots=True)
class WalLoss:
    """Numbers of frames of a damaged log: committed, readable, and already copied into the database."""

    committed: int
    readable: int
    copied: int

    @property
    def lost(self) -> int:
        """How many committed frames are neither readable nor copied."""
        return self.committed - max(self.readable, self.copied)

    def words(self, name: str) -> str:
        """Return an error message for a database of this file name, with the ways to repair it."""
        gone = ("-wal", "-shm") if self.copied >= self.readable else ("-shm",)
        files = " and ".join(f"{name}{end}" for end in gone)
        return (
            f"{name}-wal is damaged after frame {self.readable} of {self.committed};"
            f" {self.lost} frames of commits are lost: keep a copy of {name}, {name}-wal and {name}-shm, then"
            f" restore a backup, or remove {files} to continue with the earlier commits"
        )


class WalUnknown(Exception):
    """The log can't be checked; the message says why."""


@dataclass(frozen=True, slots=True)
class _Index:
    page_bytes: int
    frames: int
    salts: bytes
    copied: int


def find_lost_commits(database: Path) -> WalLoss | None:
    """Return the loss of commits; None when all are readable. Blocks. Raises WalUnknown, OSError."""
    loss = _loss(database)
    if loss is not None and not was_opened_since_boot(database):
        raise WalUnknown("the machine was restarted since a core last opened the database")
    return loss


def _loss(database: Path) -> WalLoss | None:
    for left in reversed(range(_TRIES)):
        index = _index(database)
        try:
            readable = _readable(database.with_name(f"{database.name}-wal"), index)
        except WalUnknown:
            # The two files of a log do not match while a core restarts it.
            if not left:
                raise
            continue
        if index is None or not index.frames:
            return None
        if _index(database) == index:
            loss = WalLoss(index.frames, readable, index.copied)
            # SQLite prefers the readable frames of a log to the pages of the database, even to newer pages.
            return loss if loss.lost or 0 < readable < index.copied else None
    raise WalUnknown("a core is writing it")


def _index(database: Path) -> _Index | None:
    """Read the index, the -shm file; None if it is missing or invalid."""
    try:
        with database.with_name(f"{database.name}-shm").open("rb") as file:
            data = file.read(2 * _INDEX_HEADER.size + _BACKFILLED.size)
    except FileNotFoundError:
        return None
    size = _INDEX_HEADER.size
    if len(data) < 2 * size + _BACKFILLED.size or data[:size] != data[size : 2 * size]:
        return None
    version, _, _, is_set, _, page, frames, _, _, _, salts, *own = _INDEX_HEADER.unpack(data[:size])
    if version != _VERSION or not is_set or _sum(data[: size - 8], (0, 0), swapped=False) != tuple(own):
        return None
    (copied,) = _BACKFILLED.unpack_from(data, 2 * size)
    page_bytes = (page & 0xFE00) + ((page & 1) << 16)
    return _Index(page_bytes, frames, salts, copied)


def _readable(wal: Path, index: _Index | None) -> int:
    """Return the last frame that ends a commit, before the first missing or damaged frame.

    Raises WalUnknown for a log without its index.
    """
    if index is None:
        if wal.exists() and wal.stat().st_size:
            raise WalUnknown("its index, the -shm file, is missing or incomplete")
        return 0
    return max((number for number, ends in _frames(wal, index) if ends), default=0)


def _frames(wal: Path, index: _Index) -> Iterator[tuple[int, bool]]:
    """Yield the numbers of the valid frames up to the first invalid one, and whether each ends a commit."""
    try:
        file = wal.open("rb")
    except FileNotFoundError:
        return
    with file:
        header = file.read(_WAL_HEADER.size)
        if len(header) < _WAL_HEADER.size:
            return
        magic, version, page_bytes, _, _, _, *given = _WAL_HEADER.unpack(header)
        if magic & ~1 != _MAGIC or version != _VERSION or page_bytes != index.page_bytes:
            return
        swapped = bool(magic & 1) != (array("I", b"\0\0\0\1")[0] == 1)
        checksum = _sum(header[:24], (0, 0), swapped=swapped)
        if checksum != tuple(given):
            return
        if header[16:24] != index.salts:
            raise WalUnknown("the log was restarted or replaced since a core last wrote it")
        for number in range(1, index.frames + 1):
            frame = file.read(_FRAME_HEADER.size + page_bytes)
            if len(frame) < _FRAME_HEADER.size + page_bytes:
                return
            _, size, salts, *given = _FRAME_HEADER.unpack_from(frame)
            checksum = _sum(frame[:8] + frame[_FRAME_HEADER.size :], checksum, swapped=swapped)
            if salts != index.salts or checksum != tuple(given):
                return
            yield number, size > 0


def _sum(data: bytes, start: tuple[int, int], *, swapped: bool) -> tuple[int, int]:
    """Continue SQLite's checksum: for each pair of words s0 += x0 + s1 and s1 += x1 + s0.

    In the result each word is multiplied by a Fibonacci number, so it is computed as a sum of products.
    """
    words = array("I", data)
    if swapped:
        words.byteswap()
    count = len(words)
    numbers = _fibonacci(count)
    s0, s1 = start
    sum_0 = numbers[1] * s0 + numbers[0] * s1 + sum(map(mul, words, numbers[1:]))
    sum_1 = numbers[0] * s0 + (numbers[0] + numbers[1]) * s1 + sum(map(mul, words, numbers))
    return sum_0 & _WORD, sum_1 & _WORD


@lru_cache(maxsize=4)
def _fibonacci(count: int) -> list[int]:
    """Return the Fibonacci numbers F(count) to F(0), modulo 2^32."""
    numbers = [0, 1]
    while len(numbers) <= count:
        numbers.append((numbers[-1] + numbers[-2]) & _WORD)
    return numbers[count::-1]
