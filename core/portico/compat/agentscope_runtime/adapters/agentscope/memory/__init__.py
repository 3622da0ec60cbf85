"""A memory of AgentScope 1 that is stored as a session of a history service."""

from portico.compat.agentscope_runtime.adapters.agentscope.memory.session_history import (
    AgentScopeSessionHistoryMemory,
)

__all__ = ["AgentScopeSessionHistoryMemory"]
