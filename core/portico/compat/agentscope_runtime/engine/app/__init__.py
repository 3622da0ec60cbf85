"""AgentApp."""

from portico.compat.agentscope_runtime.engine.app.agent_app import AgentApp

__all__ = ["AgentApp"]
