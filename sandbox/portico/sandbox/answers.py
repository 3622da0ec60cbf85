"""What an agent answers, read by type. Code inside may have written it, so nothing is taken for granted: what
is not as the agent's own code makes it ends the sandbox.
"""

import json
import re
from collections.abc import Callable, Iterable
from typing import Any, Final, NoReturn

from portico.sandbox import errors

_VALUES: Final = 1 << 16  # of one message: each takes up to 100 bytes of memory, and 3 bytes to send
# Possessive, and to the end where a quote is missing: a search that begins anew behind each one would take
# time with the square of the payload.
_STRING: Final = re.compile(rb'"(?:[^"\\]++|\\.)*+"?', re.DOTALL)
_SAID: Final = 2_000  # characters of an agent's words that are passed on
_LARGEST: Final = (1 << 63) - 1


class Broken(ValueError):
    """The payload is nothing that an agent would send."""


def parse(payload: bytes) -> dict[str, Any]:
    """A JSON object of at most so many values. Raises Broken, also for NaN. Of a name that comes twice the
    last counts, and nobody else reads it.
    """
    if len(payload) > _VALUES and _places(payload) > _VALUES and _places(_STRING.sub(b"", payload)) > _VALUES:
        raise Broken("JSON of too many values")
    try:
        message = _decode(payload.decode())
    except (ValueError, RecursionError):
        raise Broken("no JSON") from None
    if not isinstance(message, dict):
        raise Broken("no JSON object")
    return message


def _places(payload: bytes) -> int:
    """Where a value may begin."""
    return payload.count(b",") + payload.count(b"[") + payload.count(b"{")


def _refuse(constant: str) -> NoReturn:
    raise ValueError(constant)


_decode: Final = json.JSONDecoder(parse_constant=_refuse).decode


class Answer:
    """One message. Each method gives a field of one type, or ends the sandbox by `broken`, which gives the
    error to raise; with a default, a field may be null or not there.
    """

    def __init__(self, told: dict[str, Any], broken: Callable[[str], errors.SandboxGone]) -> None:
        self._told = told
        self._broken = broken

    def has(self, name: str) -> bool:
        return self._told.get(name) is not None

    def text(self, name: str, most: int = 1_000, default: str | None = None) -> str:
        """In characters of which each can be encoded."""
        if default is not None and not self.has(name):
            return default
        return _clean(self._text(self._told.get(name), name, most))

    def path(self, name: str) -> str:
        """As the system has it: bytes that are no UTF-8 are escaped as os.fsdecode does."""
        path = self._text(self._told.get(name), name, 8_192)
        if "\0" in path:
            raise self._broken(f"{name} is no path")
        try:
            path.encode(errors="surrogateescape")
        except UnicodeEncodeError:
            raise self._broken(f"{name} is no path") from None
        return path

    def number(self, name: str, low: int = 0, high: int = _LARGEST, default: int | None = None) -> int:
        if default is not None and not self.has(name):
            return default
        value = self._told.get(name)
        if type(value) is not int or not low <= value <= high:
            raise self._broken(f"{name} is no number from {low} to {high}")
        return value

    def exit_code(self, name: str = "exit_code") -> int | None:
        """Negative for a signal; None if there is none."""
        return self.number(name, -255, 255) if self.has(name) else None

    def seconds(self, name: str) -> float:
        """Unix seconds, between the years 1 and 9999."""
        value = self._told.get(name)
        if not isinstance(value, int | float) or not -62_135_596_800 <= value < 253_402_300_800:
            raise self._broken(f"{name} is no time")
        return float(value)

    def flag(self, name: str) -> bool:
        value = self._told.get(name, False)
        if type(value) is not bool:
            raise self._broken(f"{name} is no flag")
        return value

    def texts(self, name: str, most: int = 100, default: Iterable[str] | None = None) -> list[str]:
        if default is not None and not self.has(name):
            return list(default)
        return [_clean(self._text(value, name, 8_192)) for value in self._list(name, most)]

    def pairs(self, name: str, most: int = 1_000) -> list[tuple[int, int]]:
        """A list of two numbers each; none where there is no such field."""
        if not self.has(name):
            return []
        pairs = self._list(name, most)
        if not all(isinstance(pair, list) and [type(part) for part in pair] == [int, int] for pair in pairs):
            raise self._broken(f"{name} are no pairs of numbers")
        return [(pair[0], pair[1]) for pair in pairs]

    def each(self, name: str, most: int) -> "list[Answer]":
        """A list of objects."""
        return [self._inner(value, name) for value in self._list(name, most)]

    def inner(self, name: str) -> "Answer":
        return self._inner(self._told.get(name), name)

    def failure(self) -> errors.SandboxError | None:
        """What the agent says went wrong, by its own type. What a cell has raised is none."""
        told = self._told.get("error")
        if not isinstance(told, dict) or "kind" not in told:
            return None
        error = self._inner(told, "error")
        kind, message = error.text("kind", 50), error.text("message", 64 << 10)[:_SAID]
        if kind == "limit":
            return errors.LimitExceeded(message, error.text("limit", 50), error.flag("kernel_lost"))
        if kind == "kernel_died":
            return errors.KernelDied(message, error.exit_code() or 0)
        return _KINDS.get(kind, errors.OperationFailed)(message)

    def _text(self, value: Any, name: str, most: int) -> str:
        if not isinstance(value, str) or len(value) > most:
            raise self._broken(f"{name} is no text of at most {most} characters")
        return value

    def _list(self, name: str, most: int) -> list[Any]:
        value = self._told.get(name)
        if not isinstance(value, list) or len(value) > most:
            raise self._broken(f"{name} is no list of at most {most} items")
        return value

    def _inner(self, value: Any, name: str) -> "Answer":
        if not isinstance(value, dict):
            raise self._broken(f"{name} is no object")
        return Answer(value, self._broken)


def _clean(text: str) -> str:
    """Lone surrogates, which code inside can put into any text, would fail wherever it is encoded."""
    return text if text.isascii() else text.encode(errors="replace").decode()


_KINDS: Final[dict[str, type[errors.SandboxError]]] = {
    "invalid": errors.InvalidRequest,
    "invalid_path": errors.InvalidPath,
    "no_match": errors.EditMismatch,
    "not_found": errors.EntryNotFound,
    "no_process": errors.ProcessNotFound,
    "not_directory": errors.InvalidPath,
    "is_directory": errors.InvalidPath,
    "exists": errors.EntryExists,
    "refused": errors.PortRefused,
    "cancelled": errors.CallCancelled,
    "boot": errors.BackendUnavailable,
    "busy": errors.InvalidRequest,
}
