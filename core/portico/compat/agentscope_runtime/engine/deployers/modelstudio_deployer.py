"""Under its own name, as the reference has it."""

from portico.compat.agentscope_runtime.engine.deployers.unsupported_deployers import (
    ModelstudioConfig,
    ModelstudioDeployManager,
    OSSConfig,
)

__all__ = ["ModelstudioConfig", "ModelstudioDeployManager", "OSSConfig"]
