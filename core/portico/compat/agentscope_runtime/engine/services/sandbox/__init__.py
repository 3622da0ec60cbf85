"""The service for sandboxes by session."""

from portico.compat.agentscope_runtime.engine.services.sandbox.sandbox_service import SandboxService
from portico.compat.agentscope_runtime.engine.services.sandbox.sandbox_service_factory import (
    SandboxServiceFactory,
)

__all__ = ["SandboxService", "SandboxServiceFactory"]
