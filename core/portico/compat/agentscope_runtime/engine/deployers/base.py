"""The interface of deploy managers."""

from abc import ABC, abstractmethod
from typing import Any
from uuid import uuid4

from portico.compat.agentscope_runtime.engine.deployers.state import DeploymentStateManager


class DeployManager(ABC):
    """Deploys one agent; its `deploy_id` is the argument of `stop`."""

    def __init__(self, state_manager: DeploymentStateManager | None = None) -> None:
        self.deploy_id = str(uuid4())
        self.state_manager = state_manager or DeploymentStateManager()

    @abstractmethod
    async def deploy(self, *args: Any, **kwargs: Any) -> dict[str, str]:
        """Returns {"deploy_id", "url"}."""

    @abstractmethod
    async def stop(self, deploy_id: str, **kwargs: Any) -> dict[str, Any]:
        """Returns {"success", "message", "details"}."""
