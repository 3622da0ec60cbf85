"""Services for the state of agents."""

from portico.compat.agentscope_runtime.engine.services.agent_state.redis_state_service import (
    RedisStateService,
)
from portico.compat.agentscope_runtime.engine.services.agent_state.state_service import (
    InMemoryStateService,
    StateService,
)
from portico.compat.agentscope_runtime.engine.services.agent_state.state_service_factory import (
    StateServiceFactory,
)

__all__ = ["InMemoryStateService", "RedisStateService", "StateService", "StateServiceFactory"]
