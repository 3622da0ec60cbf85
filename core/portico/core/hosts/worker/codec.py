"""Codec of the values that pass between a core and its workers.

Values are pickled, because that is fast and keeps types; but only Portico's own types, its errors and
Python's plain types may be named in a pickle. Any other value is sent as the JSON that the log would make of
it, so that the core never needs a worker's classes.
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
        "portico.model.run_status",
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


class UndecodableMessage(Exception):
    """The bytes are not a message of the other side."""


def encode(value: object) -> bytes:
    """Encode a value. Raises TypeError, ValueError or RecursionError if that is impossible."""
    file = io.BytesIO()
    _Pickler(file, pickle.HIGHEST_PROTOCOL).dump(value)
    return file.getvalue()


def decode(data: bytes | memoryview) -> Any:
    """Decode a value. Raises UndecodableMessage."""
    try:
        return _Unpickler(io.BytesIO(data)).load()
    except Exception as error:
        raise UndecodableMessage(f"{type(error).__name__}: {error}") from None


class _Pickler(pickle.Pickler):
    def reducer_override(self, value: object) -> Any:
        if isinstance(value, BaseException):
            return _decode_error, _encode_error(value)
        if isinstance(value, Enum) and _is_allowed_type(type(value)):
            return type(value), (value.value,)  # some releases of Python would pickle it by `getattr`
        if (
            value is _decode_error
            or value is _from_json
            or _is_allowed_type(value if isinstance(value, type) else type(value))
        ):
            return NotImplemented
        return _from_json, (orjson.dumps(value, default=str, option=orjson.OPT_NON_STR_KEYS),)


class _Unpickler(pickle.Unpickler):  # finds only the allowed classes
    def find_class(self, module: str, name: str) -> Any:
        if module == __name__ and name in (_decode_error.__name__, _from_json.__name__):
            return globals()[name]
        if "." not in name:
            if module == "builtins":
                found = getattr(builtins, name, None)
            elif module in _MODULES:
                found = super().find_class(module, name)
            else:
                found = asyncio.CancelledError if name == "CancelledError" else None
            if isinstance(found, type) and _is_allowed_type(found):
                return found
        raise pickle.UnpicklingError(f"{module}.{name} is not allowed in a message")


@lru_cache(maxsize=1024)
def _is_allowed_type(kind: type) -> bool:
    if kind is asyncio.CancelledError:
        return True
    if issubclass(kind, Exception):
        return kind.__module__ in _MODULES or (
            kind.__module__ == "builtins" and not issubclass(kind, StopIteration | StopAsyncIteration)
        )
    return kind.__module__ in _MODULES and (is_dataclass(kind) or issubclass(kind, Enum))


def _encode_error(error: BaseException) -> tuple[type[BaseException], tuple[Any, ...], dict[str, Any]]:
    """The error itself if the other side knows its class; else a RuntimeError with its text."""
    kind: Any = type(error)
    if _is_allowed_type(kind):
        return kind, error.args, vars(error)
    return RuntimeError, (f"{type(error).__name__}: {error}",), {}


def _decode_error(kind: type[BaseException], args: tuple[Any, ...], about: dict[str, Any]) -> BaseException:
    error = kind.__new__(kind, *args)
    error.args = args  # __init__ may have other parameters, so it is not called
    vars(error).update(about)
    return error


def _from_json(text: bytes) -> Any:
    return orjson.loads(text)
