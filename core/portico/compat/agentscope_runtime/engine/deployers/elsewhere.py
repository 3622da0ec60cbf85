"""Deploy managers of the reference for places that Portico does not deploy to: making one says so."""

from typing import Any, NoReturn

from pydantic import BaseModel, ConfigDict

from portico.compat.agentscope_runtime.errors import NotThereYet

INSTEAD = "there is LocalDeployManager; elsewhere start `portico run` or `portico core` and `portico gateway`"


class _Elsewhere:
    def __init__(self, *_arguments: Any, **_named: Any) -> None:
        self._refuse()

    def _refuse(self) -> NoReturn:
        raise NotThereYet(type(self).__name__, INSTEAD)


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
