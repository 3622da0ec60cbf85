"""Deploy managers; only the local one is supported."""

from portico.compat.agentscope_runtime.engine.deployers.base import DeployManager
from portico.compat.agentscope_runtime.engine.deployers.local_deployer import LocalDeployManager
from portico.compat.agentscope_runtime.engine.deployers.unsupported_deployers import (
    AgentRunDeployManager,
    FCDeployManager,
    K8sConfig,
    KnativeDeployManager,
    KruiseDeployManager,
    KubernetesDeployManager,
    ModelstudioDeployManager,
    PAIDeployManager,
)

__all__ = [
    "AgentRunDeployManager",
    "DeployManager",
    "FCDeployManager",
    "K8sConfig",
    "KnativeDeployManager",
    "KruiseDeployManager",
    "KubernetesDeployManager",
    "LocalDeployManager",
    "ModelstudioDeployManager",
    "PAIDeployManager",
]
