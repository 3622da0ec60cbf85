"""Whose turn it is to write to a database: one writer at a time in this process."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from types import TracebackType
from typing import Protocol

from portico.core.errors import StoreUnavailable
from portico.core.stores.disk_reserve import spends_reserve
from portico.core.stores.ports.store_health import StoreHealth
from portico.core.stores.sqlite.sqlite_errors import failure_of

WAIT_SECONDS = 5.0  # for one's turn; who waits longer is told that the database is busy


class DeleteRoom(Protocol):
    """Space on a full disk for the one transaction of a turn."""

    async def open(self) -> None: ...

    async def close(self) -> None: ...


class WriteTurn(asyncio.Lock):
    """A lock whose holders' failures tell of the store's health. So nobody finds the file locked by this
    process, which SQLite would sleep for."""

    def __init__(self, health: StoreHealth) -> None:
        super().__init__()
        self._health = health
        self.room: DeleteRoom | None = None  # for whoever may spend the reserve

    async def __aenter__(self) -> None:
        await super().__aenter__()
        if self.room is not None and spends_reserve():
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
        failure = None if error is None else failure_of(error)
        if failure is not None:
            self._health.refused(failure)
        try:
            if self.room is not None and spends_reserve():
                await self.room.close()
        finally:
            await super().__aexit__(kind, error, trace)


@asynccontextmanager
async def in_time(*turns: AbstractAsyncContextManager[object]) -> AsyncIterator[None]:
    """All of them, in order. Raises StoreUnavailable for who waits too long: an answer that comes after its
    caller's patience helps nobody."""
    async with AsyncExitStack() as stack:
        try:
            async with asyncio.timeout(WAIT_SECONDS):
                for turn in turns:
                    await stack.enter_async_context(turn)
        except TimeoutError:
            raise StoreUnavailable("the database is too busy; try again") from None
        yield
