"""What the services of a client have in common."""

import inspect
from collections.abc import Callable
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

    @wraps(method)
    def checked(*args: Any, **kwargs: Any) -> Any:
        for name, value in (*zip(names, args, strict=False), *kwargs.items()):
            if value == "" and (name == "key" or name.endswith("_id")):
                raise InvalidArgument(
                    f"{name}: is empty; leave it out to name none",
                    reason="INVALID_ARGUMENT",
                    metadata={"field": name},
                )
        return method(*args, **kwargs)

    return checked
