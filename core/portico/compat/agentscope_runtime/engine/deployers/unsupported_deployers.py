"""The reference's deploy managers for targets that Portico does not support: the constructors raise."""

from pydantic import BaseModel, ConfigDict

from portico.compat.agentscope_runtime.errors import Elsewhere

INSTEAD = (
    "use LocalDeployManager; on other machines start `portico run` or `portico core` and `portico gateway`"
)


class _Elsewhere(Elsewhere):
    instead = INSTEAD


class KubernetesDeployManager(_Elsewhere):
    """Raises NotThereYet."""


class KnativeDeployManager(_Elsewhere):
    """Raises NotThereYet."""


class KruiseDeployManager(_Elsewhere):
    """Raises NotThereYet."""


class ModelstudioDeployManager(_Elsewhere):
    """Raises NotThereYet."""


class AgentRunDeployManager(_Elsewhere):
    """Raises NotThereYet."""


class FCDeployManager(_Elsewhere):
    """Raises NotThereYet."""


class PAIDeployManager(_Elsewhere):
    """Raises NotThereYet."""


class _Config(BaseModel):
    """Accepts any arguments."""

    model_config = ConfigDict(extra="allow")


class K8sConfig(_Config):
    """The configuration of an unsupported manager."""


class OSSConfig(_Config):
    """The configuration of an unsupported manager."""


class ModelstudioConfig(_Config):
    """The configuration of an unsupported manager."""
