"""Creates services by the name of their backend, with options from the environment."""

import inspect
import os
from collections.abc import Callable
from typing import Any, ClassVar, Generic, TypeVar

from portico.compat.agentscope_runtime.engine.services.base import ServiceWithLifecycleManager

T = TypeVar("T", bound=ServiceWithLifecycleManager)


class ServiceFactory(Generic[T]):
    """`{PREFIX}BACKEND` names the backend, `{PREFIX}{BACKEND}_{OPTION}` its options; arguments take
    precedence.
    """

    _registry: ClassVar[dict[str, Callable[..., Any]]] = {}
    _env_prefix: ClassVar[str] = ""
    _default_backend: ClassVar[str] = "in_memory"

    @classmethod
    def register_backend(cls, backend_type: str, constructor: Callable[..., T]) -> None:
        cls._registry[backend_type.lower()] = constructor

    @classmethod
    async def create(cls, backend_type: str | None = None, **kwargs: Any) -> T:
        """Returns a service that is not started. Raises ValueError for an unregistered backend."""
        name = (backend_type or os.getenv(f"{cls._env_prefix}BACKEND") or cls._default_backend).lower()
        constructor = cls._registry.get(name)
        if constructor is None:
            raise ValueError(
                f"Unsupported backend type: {name}; expected one of {', '.join(sorted(cls._registry))}"
            )
        prefix = f"{cls._env_prefix}{name.upper()}_"
        options: dict[str, Any] = {
            option.removeprefix(prefix).lower(): value
            for option, value in os.environ.items()
            if option.startswith(prefix)
        }
        options |= kwargs
        parameters = inspect.signature(constructor).parameters
        if not any(one.kind is one.VAR_KEYWORD for one in parameters.values()):
            options = {option: value for option, value in options.items() if option in parameters}
        service: T = constructor(**options)
        return service
