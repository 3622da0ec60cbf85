"""Deploy managers of the reference for places that Portico does not deploy to: making one says so."""

from pydantic import BaseModel, ConfigDict

from portico.compat.agentscope_runtime.errors import Elsewhere

INSTEAD = "there is LocalDeployManager; elsewhere start `portico run` or `portico core` and `portico gateway`"


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
    """Whatever it is given."""

    model_config = ConfigDict(extra="allow")


class K8sConfig(_Config):
    """Of a manager that is not there."""


class OSSConfig(_Config):
    """Of a manager that is not there."""


class ModelstudioConfig(_Config):
    """Of a manager that is not there."""
