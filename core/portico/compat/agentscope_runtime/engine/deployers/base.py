"""What every deploy manager can do."""

from abc import ABC, abstractmethod
from typing import Any
from uuid import uuid4

from portico.compat.agentscope_runtime.engine.deployers.state import DeploymentStateManager


class DeployManager(ABC):
    """Deploys one agent; `deploy_id` is what it is stopped by."""

    def __init__(self, state_manager: DeploymentStateManager | None = None) -> None:
        self.deploy_id = str(uuid4())
        self.state_manager = state_manager or DeploymentStateManager()

    @abstractmethod
    async def deploy(self, *args: Any, **kwargs: Any) -> dict[str, str]:
        """{"deploy_id", "url"}."""

    @abstractmethod
    async def stop(self, deploy_id: str, **kwargs: Any) -> dict[str, Any]:
        """{"success", "message", "details"}."""
