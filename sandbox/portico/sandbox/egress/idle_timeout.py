"""Ends idle connections of the proxy."""

import asyncio
from types import TracebackType
from typing import Final

_SECONDS: Final = 600.0
# After code inside has closed its sending side: it may have ended, which shows only when data is sent to it.
_HALF_SECONDS: Final = 60.0


class IdleTimeout:
    """A context manager that raises TimeoutError in its block if `reset` is not called for some minutes."""

    def __init__(self) -> None:
        self._seconds = _SECONDS
        self._timeout = asyncio.timeout(self._seconds)

    async def __aenter__(self) -> "IdleTimeout":
        await self._timeout.__aenter__()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._timeout.__aexit__(kind, error, trace)

    def reset(self) -> None:
        """Restarts the timeout, because data was carried."""
        self._timeout.reschedule(asyncio.get_running_loop().time() + self._seconds)

    def shorten(self) -> None:
        """Shortens the timeout, because one side has closed its sending side."""
        self._seconds = min(self._seconds, _HALF_SECONDS)
        self.reset()
