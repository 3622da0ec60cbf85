"""AgentApp, Runner and deploy managers with the reference's API."""

from portico.compat.agentscope_runtime.engine.app import AgentApp
from portico.compat.agentscope_runtime.engine.deployers import (
    AgentRunDeployManager,
    DeployManager,
    FCDeployManager,
    KnativeDeployManager,
    KruiseDeployManager,
    KubernetesDeployManager,
    LocalDeployManager,
    ModelstudioDeployManager,
)
from portico.compat.agentscope_runtime.engine.runner import Runner

__all__ = [
    "AgentApp",
    "AgentRunDeployManager",
    "DeployManager",
    "FCDeployManager",
    "KnativeDeployManager",
    "KruiseDeployManager",
    "KubernetesDeployManager",
    "LocalDeployManager",
    "ModelstudioDeployManager",
    "Runner",
]
