"""The lock that lets one writer at a time of this process write to a database."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from types import TracebackType
from typing import Protocol

from portico.core.errors import StoreUnavailable
from portico.core.stores.disk_reserve import is_deleting
from portico.core.stores.ports.store_health import StoreHealth
from portico.core.stores.sqlite.sqlite_errors import find_failure

MAX_WAIT_SECONDS = 5.0  # the longest wait for the lock; then the call fails because the database is busy


class ReserveControl(Protocol):
    """Provides space on a full disk for one transaction."""

    async def open(self) -> None: ...

    async def close(self) -> None: ...


class WriteLock(asyncio.Lock):
    """The write lock. Failures of its holders are recorded in the store's health.

    Without it a writer could find the file locked by another of this process, and SQLite would sleep.
    """

    def __init__(self, health: StoreHealth) -> None:
        super().__init__()
        self._health = health
        self.room: ReserveControl | None = None  # opened for transactions that may use the disk reserve

    async def __aenter__(self) -> None:
        await super().__aenter__()
        if self.room is not None and is_deleting():
            try:
                await self.room.open()
            except BaseException:
                self.release()
                raise

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        failure = None if error is None else find_failure(error)
        if failure is not None:
            self._health.record_failure(failure)
        try:
            if self.room is not None and is_deleting():
                await self.room.close()
        finally:
            await super().__aexit__(kind, error, trace)


@asynccontextmanager
async def acquire_within(*turns: AbstractAsyncContextManager[object]) -> AsyncIterator[None]:
    """Enter the locks in order, within MAX_WAIT_SECONDS in total.

    Raises StoreUnavailable after that time: a longer wait would exceed the time that callers wait.
    """
    async with AsyncExitStack() as stack:
        try:
            async with asyncio.timeout(MAX_WAIT_SECONDS):
                for turn in turns:
                    await stack.enter_async_context(turn)
        except TimeoutError:
            raise StoreUnavailable("the database is too busy; try again") from None
        yield
