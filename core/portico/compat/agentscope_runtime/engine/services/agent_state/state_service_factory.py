"""State services by STATE_BACKEND."""

from collections.abc import Callable
from typing import Any, ClassVar

from portico.compat.agentscope_runtime.engine.services.agent_state.redis_state_service import (
    RedisStateService,
)
from portico.compat.agentscope_runtime.engine.services.agent_state.state_service import (
    InMemoryStateService,
    StateService,
)
from portico.compat.agentscope_runtime.engine.services.service_factory import ServiceFactory


class StateServiceFactory(ServiceFactory[StateService]):
    _registry: ClassVar[dict[str, Callable[..., Any]]] = {
        "in_memory": InMemoryStateService,
        "redis": RedisStateService,
    }
    _env_prefix = "STATE_"
