"""Creates the session service that SESSION_HISTORY_BACKEND names."""

from collections.abc import Callable
from typing import Any, ClassVar

from portico.compat.agentscope_runtime.engine.services.service_factory import ServiceFactory
from portico.compat.agentscope_runtime.engine.services.session_history.redis_session_history_service import (
    RedisSessionHistoryService,
)
from portico.compat.agentscope_runtime.engine.services.session_history.session_history_service import (
    InMemorySessionHistoryService,
    SessionHistoryService,
)


class SessionHistoryServiceFactory(ServiceFactory[SessionHistoryService]):
    _registry: ClassVar[dict[str, Callable[..., Any]]] = {
        "in_memory": InMemorySessionHistoryService,
        "redis": RedisSessionHistoryService,
    }
    _env_prefix = "SESSION_HISTORY_"
