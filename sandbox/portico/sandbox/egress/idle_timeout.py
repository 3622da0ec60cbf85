"""Ends a connection on which nothing is carried any more."""

import asyncio
from types import TracebackType
from typing import Final

_SECONDS: Final = 600.0
# After code inside has ended its side. It may have gone, which shows only when something is sent to it.
_HALF_SECONDS: Final = 60.0


class IdleTimeout:
    """Raises TimeoutError in its block when `reset` has not been called for so long."""

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
        """Something has been carried."""
        self._timeout.reschedule(asyncio.get_running_loop().time() + self._seconds)

    def shorten(self) -> None:
        """One side has ended."""
        self._seconds = min(self._seconds, _HALF_SECONDS)
        self.reset()
