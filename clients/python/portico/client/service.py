"""The base class of a client's services."""

import inspect
from collections.abc import Callable, Mapping
from functools import wraps
from typing import Any

from portico.client.connection import Calls
from portico.client.errors import InvalidArgument


class Service:
    """Base class that rejects empty ids: an id, or a key in its place, is set or omitted, but never empty.

    An empty id comes from a variable that was never set. Handled as omitted, it would extend what a call
    lists or removes.
    """

    def __init__(self, calls: Calls) -> None:
        self._calls = calls

    def __init_subclass__(cls) -> None:
        for name, method in list(vars(cls).items()):
            if inspect.isfunction(method) and not name.startswith("_"):
                setattr(cls, name, _with_ids(method))


def _with_ids(method: Callable[..., Any]) -> Callable[..., Any]:
    """Wraps a method so that it raises InvalidArgument for an empty id before it calls the core."""
    names = tuple(inspect.signature(method).parameters)

    def check(args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> None:
        for name, value in (*zip(names, args, strict=False), *kwargs.items()):
            if value == "" and (name == "key" or name.endswith("_id")):
                raise InvalidArgument(
                    f"{name}: must not be empty; omit it instead",
                    reason="INVALID_ARGUMENT",
                    metadata={"field": name},
                )

    @wraps(method)
    def checked(*args: Any, **kwargs: Any) -> Any:
        check(args, kwargs)
        return method(*args, **kwargs)

    @wraps(method)
    async def awaited(*args: Any, **kwargs: Any) -> Any:
        check(args, kwargs)
        return await method(*args, **kwargs)

    # Frameworks test whether a tool's function is a coroutine function; the wrapper keeps the method's
    # kind.
    return awaited if inspect.iscoroutinefunction(method) else checked
