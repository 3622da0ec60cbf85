"""Services of the reference whose stores Portico does not talk to: making one says so."""

from typing import Any, NoReturn

from portico.compat.agentscope_runtime.errors import NotThereYet

INSTEAD = (
    "there are in-memory and Redis services, and context.session and context.memory, which survive a restart"
)


class _Elsewhere:
    def __init__(self, *_arguments: Any, **_named: Any) -> None:
        self._refuse()

    def _refuse(self) -> NoReturn:
        raise NotThereYet(type(self).__name__, INSTEAD)


class TablestoreSessionHistoryService(_Elsewhere):
    """Raises NotThereYet."""


class TablestoreMemoryService(_Elsewhere):
    """Raises NotThereYet."""


class Mem0MemoryService(_Elsewhere):
    """Raises NotThereYet."""


class ReMePersonalMemoryService(_Elsewhere):
    """Raises NotThereYet."""


class ReMeTaskMemoryService(_Elsewhere):
    """Raises NotThereYet."""
