"""What crosses between a core and its workers, as bytes.

Pickled, for that is fast and keeps types; but only our own values, errors and Python's plain ones have a
name in it. Anything else travels as the JSON that the log would have made of it, so that a worker's
classes never need to be there in the core.
"""

import asyncio
import builtins
import io
import pickle
from dataclasses import is_dataclass
from enum import Enum
from functools import lru_cache
from typing import Any

import orjson

_MODULES = frozenset(
    (
        "portico.model.messages",
        "portico.agent.builders",
        "portico.agent.child_runs",
        "portico.agent.context",
        "portico.core.errors",
        "portico.core.sandboxes.sandbox_errors",
        "portico.core.hosts.worker.worker_messages",
        "portico.sandbox.errors",
        "portico.sandbox.events",
    )
)


class Garbled(Exception):
    """These bytes are not what the other side would have sent."""


def encode(value: object) -> bytes:
    """Raises TypeError, ValueError or RecursionError for what can't be."""
    file = io.BytesIO()
    _Pickler(file, pickle.HIGHEST_PROTOCOL).dump(value)
    return file.getvalue()


def decode(data: bytes | memoryview) -> Any:
    """The reverse of `encode`. Raises Garbled."""
    try:
        return _Unpickler(io.BytesIO(data)).load()
    except Exception as error:
        raise Garbled(f"{type(error).__name__}: {error}") from None


class _Pickler(pickle.Pickler):
    def reducer_override(self, value: object) -> Any:
        if isinstance(value, BaseException):
            return _error, _told(value)
        if isinstance(value, Enum) and _known(type(value)):
            return type(value), (value.value,)  # some releases of Python would name `getattr`
        if (
            value is _error
            or value is _from_json
            or _known(value if isinstance(value, type) else type(value))
        ):
            return NotImplemented
        return _from_json, (orjson.dumps(value, default=str, option=orjson.OPT_NON_STR_KEYS),)


class _Unpickler(pickle.Unpickler):  # of what we find ourselves, and of nothing else
    def find_class(self, module: str, name: str) -> Any:
        if module == __name__ and name in ("_error", "_from_json"):
            return globals()[name]
        if "." not in name:
            if module == "builtins":
                found = getattr(builtins, name, None)
            elif module in _MODULES:
                found = super().find_class(module, name)
            else:
                found = asyncio.CancelledError if name == "CancelledError" else None
            if isinstance(found, type) and _known(found):
                return found
        raise pickle.UnpicklingError(f"{module}.{name} has no business here")


@lru_cache(maxsize=1024)
def _known(kind: type) -> bool:
    if kind is asyncio.CancelledError:
        return True
    if issubclass(kind, Exception):
        return kind.__module__ in _MODULES or (
            kind.__module__ == "builtins" and not issubclass(kind, StopIteration | StopAsyncIteration)
        )
    return kind.__module__ in _MODULES and (is_dataclass(kind) or issubclass(kind, Enum))


def _told(error: BaseException) -> tuple[type[BaseException], tuple[Any, ...], dict[str, Any]]:
    """The error as far as the other side knows its kind, and else its words."""
    kind: Any = type(error)
    if _known(kind):
        return kind, error.args, vars(error)
    return RuntimeError, (f"{type(error).__name__}: {error}",), {}


def _error(kind: type[BaseException], args: tuple[Any, ...], about: dict[str, Any]) -> BaseException:
    error = kind.__new__(kind, *args)
    error.args = args  # its own __init__ may take others
    vars(error).update(about)
    return error


def _from_json(text: bytes) -> Any:
    return orjson.loads(text)
