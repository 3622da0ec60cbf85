"""The lifecycle of all services of the reference."""

from abc import ABC, abstractmethod
from typing import Self


class Service(ABC):
    """A service that operates between start and stop."""

    @abstractmethod
    async def start(self) -> None: ...

    @abstractmethod
    async def stop(self) -> None: ...

    @abstractmethod
    async def health(self) -> bool: ...


class ServiceLifecycleManagerMixin:
    """Supports `async with service`."""

    async def __aenter__(self) -> Self:
        await self.start()  # type: ignore[attr-defined]
        return self

    async def __aexit__(self, exc_type: object, exc_val: object, exc_tb: object) -> bool:
        await self.stop()  # type: ignore[attr-defined]
        return False


class ServiceWithLifecycleManager(Service, ServiceLifecycleManagerMixin):
    """The base class of services."""


class NotStarted(RuntimeError):
    """A service was used before its start, or after its stop."""

    def __init__(self) -> None:
        super().__init__("Service not started; await its start() first")


class InMemory:
    """start, stop and health of a service that discards its data when it stops."""

    def __init__(self) -> None:
        self._up = False

    async def start(self) -> None:
        self._up = True

    async def stop(self) -> None:
        self._up = False
        self._forget()

    async def health(self) -> bool:
        return self._up

    def _forget(self) -> None:
        raise NotImplementedError

    def _check(self) -> None:
        """Raises NotStarted."""
        if not self._up:
            raise NotStarted
