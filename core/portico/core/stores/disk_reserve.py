"""The disk reserve: a file beside the database that is emptied to make room for deletes on a full disk.

A delete is first written to the write-ahead log, and the log can be copied into the
database only if the database can grow. On a full disk neither is possible, so without
the reserve nothing could ever be deleted.
"""

import asyncio
import logging
import os
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from functools import wraps
from pathlib import Path
from typing import Any, Concatenate, ParamSpec, Protocol, TypeVar

from portico.core.errors import StoreFull

log = logging.getLogger(__name__)

# Enough for the pages of the write-ahead log that make the database grow, and for those that a delete adds.
BYTES = 8 * 1024 * 1024
MAX_DISK_FRACTION = 4  # on a small disk the reserve is at most one part in SHARE of the disk

_spends: ContextVar[bool] = ContextVar("portico reserve", default=False)

_S = TypeVar("_S")
_P = ParamSpec("_P")
_T = TypeVar("_T")


class DiskReserve:
    """The reserve's file. The methods block."""

    def __init__(self, database: Path) -> None:
        self._path = database.with_name(f"{database.name}.reserve")

    def reserve_space(self) -> None:
        """Fill the reserve with as much of the disk as is available, up to its full size."""
        with suppress(OSError):
            file = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            try:
                disk = os.fstatvfs(file)
                size = min(disk.f_blocks * disk.f_frsize // MAX_DISK_FRACTION, BYTES)
                while size >= disk.f_frsize:
                    with suppress(OSError):
                        os.posix_fallocate(file, 0, size)
                        return
                    os.ftruncate(file, 0)
                    size //= 2
            finally:
                os.close(file)

    def release_space(self) -> None:
        """Empty the file, so that the next writes can use its space."""
        with suppress(OSError):
            os.truncate(self._path, 0)


class Log(Protocol):
    """The run log's part in a write that uses the reserve."""

    async def open_room(self) -> None: ...

    async def close_room(self) -> None: ...

    async def probe(self) -> None: ...


class ReserveRelease:
    """Makes the reserve's space available to one transaction, whose writer holds the turn."""

    def __init__(self, reserve: DiskReserve, log: Log) -> None:
        self._reserve = reserve
        self._log = log

    async def open(self) -> None:
        await asyncio.to_thread(self._reserve.release_space)
        await self._log.open_room()

    async def close(self) -> None:
        try:
            await self._log.close_room()
        finally:
            await asyncio.to_thread(self._reserve.reserve_space)

    async def probe(self) -> None:
        """Test a write, and refill the reserve if it succeeds. Raises StoreUnavailable."""
        await self._log.probe()
        await asyncio.to_thread(self._reserve.reserve_space)


def is_deleting() -> bool:
    """Return whether the next transaction of this task may use the reserve's space."""
    return _spends.get()


@contextmanager
def _spending() -> Iterator[None]:
    token = _spends.set(True)
    try:
        yield
    finally:
        _spends.reset(token)


def uses_disk_reserve(
    method: Callable[Concatenate[_S, _P], Coroutine[Any, Any, _T]],
) -> Callable[Concatenate[_S, _P], Coroutine[Any, Any, _T]]:
    """Decorate a method that deletes in one transaction: on a full disk it is retried with the reserve."""

    @wraps(method)
    async def tried(self: _S, /, *args: _P.args, **kwargs: _P.kwargs) -> _T:
        try:
            return await method(self, *args, **kwargs)
        except StoreFull:
            log.warning("the disk is full; retrying a delete with the reserved disk space")
            with _spending():
                return await method(self, *args, **kwargs)

    return tried
