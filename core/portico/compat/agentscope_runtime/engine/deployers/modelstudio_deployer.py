"""The reference's module name for these classes."""

from portico.compat.agentscope_runtime.engine.deployers.unsupported_deployers import (
    ModelstudioConfig,
    ModelstudioDeployManager,
    OSSConfig,
)

__all__ = ["ModelstudioConfig", "ModelstudioDeployManager", "OSSConfig"]
