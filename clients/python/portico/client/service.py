"""What the services of a client have in common."""

import inspect
from collections.abc import Callable, Mapping
from functools import wraps
from typing import Any

from portico.client.connection import Calls
from portico.client.errors import InvalidArgument


class Service:
    """A service's methods: an id, or a key in its place, is given or left out, and never empty.

    An empty one comes of a variable that nobody has set: taken for none, it would widen what a call lists
    or removes.
    """

    def __init__(self, calls: Calls) -> None:
        self._calls = calls

    def __init_subclass__(cls) -> None:
        for name, method in list(vars(cls).items()):
            if inspect.isfunction(method) and not name.startswith("_"):
                setattr(cls, name, _with_ids(method))


def _with_ids(method: Callable[..., Any]) -> Callable[..., Any]:
    """The method, which raises InvalidArgument for an empty id before it calls the core."""
    names = tuple(inspect.signature(method).parameters)

    def check(args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> None:
        for name, value in (*zip(names, args, strict=False), *kwargs.items()):
            if value == "" and (name == "key" or name.endswith("_id")):
                raise InvalidArgument(
                    f"{name}: is empty; leave it out to name none",
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

    # Whoever asks whether a method is to be awaited, as frameworks do of tools, is told so.
    return awaited if inspect.iscoroutinefunction(method) else checked
