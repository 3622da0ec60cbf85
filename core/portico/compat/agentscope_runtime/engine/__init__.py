"""AgentApp, as the reference has it."""

from portico.compat.agentscope_runtime.engine.app import AgentApp

__all__ = ["AgentApp"]
