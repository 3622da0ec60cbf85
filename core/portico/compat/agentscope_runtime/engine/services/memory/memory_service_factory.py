"""Creates the memory service that MEMORY_BACKEND names."""

from collections.abc import Callable
from typing import Any, ClassVar

from portico.compat.agentscope_runtime.engine.services.memory.memory_service import (
    InMemoryMemoryService,
    MemoryService,
)
from portico.compat.agentscope_runtime.engine.services.memory.redis_memory_service import RedisMemoryService
from portico.compat.agentscope_runtime.engine.services.service_factory import ServiceFactory


class MemoryServiceFactory(ServiceFactory[MemoryService]):
    _registry: ClassVar[dict[str, Callable[..., Any]]] = {
        "in_memory": InMemoryMemoryService,
        "redis": RedisMemoryService,
    }
    _env_prefix = "MEMORY_"
