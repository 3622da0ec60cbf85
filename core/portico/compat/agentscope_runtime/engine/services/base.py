"""What all services of the reference can do."""

from typing import Self


class Service:
    """Started and stopped; nothing in memory needs either."""

    def __init__(self) -> None:
        self._running = False

    async def start(self) -> None:
        self._running = True

    async def stop(self) -> None:
        self._running = False

    async def health(self) -> bool:
        return self._running

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(self, *_error: object) -> None:
        await self.stop()
