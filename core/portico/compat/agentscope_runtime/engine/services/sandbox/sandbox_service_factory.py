"""Creates the sandbox service that SANDBOX_BACKEND names."""

from collections.abc import Callable
from typing import Any, ClassVar

from portico.compat.agentscope_runtime.engine.services.sandbox.sandbox_service import SandboxService
from portico.compat.agentscope_runtime.engine.services.service_factory import ServiceFactory


class SandboxServiceFactory(ServiceFactory[SandboxService]):
    _registry: ClassVar[dict[str, Callable[..., Any]]] = {"default": SandboxService}
    _env_prefix = "SANDBOX_"
    _default_backend = "default"
