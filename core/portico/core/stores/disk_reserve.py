"""Room for deletes on a full disk: a file beside the database whose space is given back while they work.

Each row that goes is written to the write-ahead log first, and the log can only be
moved into the database when that can grow. Neither can on a full disk, so nothing
could ever be deleted from it.
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

# What may wait in the log to be moved into the database, which then grows, and what a delete adds to it.
BYTES = 8 * 1024 * 1024
SHARE = 4  # of a small disk no more than this part

_spends: ContextVar[bool] = ContextVar("portico reserve", default=False)

_S = TypeVar("_S")
_P = ParamSpec("_P")
_T = TypeVar("_T")


class Reserve:
    """The file. Its methods block."""

    def __init__(self, database: Path) -> None:
        self._path = database.with_name(f"{database.name}.reserve")

    def take(self) -> None:
        """Hold as much of the disk as there is, up to what is wanted."""
        with suppress(OSError):
            file = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            try:
                disk = os.fstatvfs(file)
                size = min(disk.f_blocks * disk.f_frsize // SHARE, BYTES)
                while size >= disk.f_frsize:
                    with suppress(OSError):
                        os.posix_fallocate(file, 0, size)
                        return
                    os.ftruncate(file, 0)
                    size //= 2
            finally:
                os.close(file)

    def give_back(self) -> None:
        """Whoever writes next has the space."""
        with suppress(OSError):
            os.truncate(self._path, 0)


class Log(Protocol):
    """The database's log, with what happens in a turn that spends the reserve."""

    async def open_room(self) -> None: ...

    async def close_room(self) -> None: ...

    async def probe(self) -> None: ...


class SpentReserve:
    """The reserve's space for one transaction, in the turn of who writes it."""

    def __init__(self, reserve: Reserve, log: Log) -> None:
        self._reserve = reserve
        self._log = log

    async def open(self) -> None:
        await asyncio.to_thread(self._reserve.give_back)
        await self._log.open_room()

    async def close(self) -> None:
        try:
            await self._log.close_room()
        finally:
            await asyncio.to_thread(self._reserve.take)

    async def probe(self) -> None:
        """Try a write: where it succeeds there may be space to reserve. Raises StoreUnavailable."""
        await self._log.probe()
        await asyncio.to_thread(self._reserve.take)


def spends_reserve() -> bool:
    """Whether the transaction that this task begins may have the reserve's space."""
    return _spends.get()


@contextmanager
def _spending() -> Iterator[None]:
    token = _spends.set(True)
    try:
        yield
    finally:
        _spends.reset(token)


def makes_room(
    method: Callable[Concatenate[_S, _P], Coroutine[Any, Any, _T]],
) -> Callable[Concatenate[_S, _P], Coroutine[Any, Any, _T]]:
    """For a method of one transaction, which deletes: on a full disk it is tried again with the reserve."""

    @wraps(method)
    async def tried(self: _S, /, *args: _P.args, **kwargs: _P.kwargs) -> _T:
        try:
            return await method(self, *args, **kwargs)
        except StoreFull:
            log.warning("the disk is full; what is deleted gets the space that is reserved for it")
            with _spending():
                return await method(self, *args, **kwargs)

    return tried
