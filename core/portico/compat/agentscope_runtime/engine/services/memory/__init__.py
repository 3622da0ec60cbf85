"""Services for memories of users."""

from portico.compat.agentscope_runtime.engine.services.memory.memory_service import (
    InMemoryMemoryService,
    MemoryService,
)
from portico.compat.agentscope_runtime.engine.services.memory.memory_service_factory import (
    MemoryServiceFactory,
)
from portico.compat.agentscope_runtime.engine.services.memory.redis_memory_service import RedisMemoryService
from portico.compat.agentscope_runtime.engine.services.unsupported_services import (
    Mem0MemoryService,
    ReMePersonalMemoryService,
    ReMeTaskMemoryService,
    TablestoreMemoryService,
)

__all__ = [
    "InMemoryMemoryService",
    "Mem0MemoryService",
    "MemoryService",
    "MemoryServiceFactory",
    "ReMePersonalMemoryService",
    "ReMeTaskMemoryService",
    "RedisMemoryService",
    "TablestoreMemoryService",
]
