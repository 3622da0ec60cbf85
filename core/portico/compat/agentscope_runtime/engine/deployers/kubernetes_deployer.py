"""The reference's module name for this class."""

from portico.compat.agentscope_runtime.engine.deployers.unsupported_deployers import (
    K8sConfig,
    KubernetesDeployManager,
)

__all__ = ["K8sConfig", "KubernetesDeployManager"]
