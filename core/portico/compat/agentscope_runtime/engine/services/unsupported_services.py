"""The reference's services for stores that Portico does not support: the constructors raise."""

from portico.compat.agentscope_runtime.errors import Elsewhere

INSTEAD = (
    "use the in-memory or Redis services, and context.session and context.memory, which survive a restart"
)


class _Elsewhere(Elsewhere):
    instead = INSTEAD


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
