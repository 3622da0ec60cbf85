"""Services for conversations."""

from portico.compat.agentscope_runtime.engine.schemas.session import Session
from portico.compat.agentscope_runtime.engine.services.session_history.redis_session_history_service import (
    RedisSessionHistoryService,
)
from portico.compat.agentscope_runtime.engine.services.session_history.session_history_service import (
    InMemorySessionHistoryService,
    SessionHistoryService,
)
from portico.compat.agentscope_runtime.engine.services.session_history.session_history_service_factory import (  # noqa: E501
    SessionHistoryServiceFactory,
)
from portico.compat.agentscope_runtime.engine.services.unsupported_services import (
    TablestoreSessionHistoryService,
)

__all__ = [
    "InMemorySessionHistoryService",
    "RedisSessionHistoryService",
    "Session",
    "SessionHistoryService",
    "SessionHistoryServiceFactory",
    "TablestoreSessionHistoryService",
]
