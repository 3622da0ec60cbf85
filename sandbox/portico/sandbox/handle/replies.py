"""Reads replies of a supervisor (the process inside a sandbox) field by field, with type checks.

Untrusted code may have forged a reply. A field that the supervisor's own code would not send ends the
sandbox.
"""

import json
import re
from collections.abc import Callable, Iterable
from typing import Any, Final, NoReturn

from portico.sandbox import errors

_VALUES: Final = 1 << 16  # per message: each value takes up to 100 bytes of memory, and 3 bytes on the wire
# Possessive, and up to the end where a quote is missing: a search that restarts after each quote would take
# time quadratic in the payload.
_STRING: Final = re.compile(rb'"(?:[^"\\]++|\\.)*+"?', re.DOTALL)
_SAID: Final = 2_000  # characters of the supervisor's error message that are passed on
_LARGEST: Final = (1 << 63) - 1


class MalformedReply(ValueError):
    """The payload is not a message that a supervisor would send."""


def parse(payload: bytes) -> dict[str, Any]:
    """Parses a JSON object of at most _VALUES values. Of a duplicate name the last value counts; no other
    parser reads the payload, so the choice is safe. Raises MalformedReply, also for NaN.
    """
    if len(payload) > _VALUES and _places(payload) > _VALUES and _places(_STRING.sub(b"", payload)) > _VALUES:
        raise MalformedReply("JSON has too many values")
    try:
        message = _decode(payload.decode())
    except (ValueError, RecursionError):
        raise MalformedReply("not JSON") from None
    if not isinstance(message, dict):
        raise MalformedReply("not a JSON object")
    return message


def _places(payload: bytes) -> int:
    """Counts the characters that may precede a value: an upper bound on the values."""
    return payload.count(b",") + payload.count(b"[") + payload.count(b"{")


def _refuse(constant: str) -> NoReturn:
    raise ValueError(constant)


_decode: Final = json.JSONDecoder(parse_constant=_refuse).decode


class Reply:
    """One reply. Each method returns a field of one type. A field of another type ends the sandbox: `broken`
    does that and returns the error to raise. With a default, a field may be null or missing.
    """

    def __init__(self, told: dict[str, Any], broken: Callable[[str], errors.SandboxGone]) -> None:
        self._told = told
        self._broken = broken

    def has(self, name: str) -> bool:
        """Whether a field exists and is not null."""
        return self._told.get(name) is not None

    def text(self, name: str, most: int = 1_000, default: str | None = None) -> str:
        """Returns a text of at most `most` characters; characters that UTF-8 cannot encode are replaced."""
        if default is not None and not self.has(name):
            return default
        return _clean(self._text(self._told.get(name), name, most))

    def path(self, name: str) -> str:
        """Returns a path; bytes that are not UTF-8 are escaped as by os.fsdecode."""
        path = self._text(self._told.get(name), name, 8_192)
        if "\0" in path:
            raise self._broken(f"{name} is not a path")
        try:
            path.encode(errors="surrogateescape")
        except UnicodeEncodeError:
            raise self._broken(f"{name} is not a path") from None
        return path

    def number(self, name: str, low: int = 0, high: int = _LARGEST, default: int | None = None) -> int:
        if default is not None and not self.has(name):
            return default
        value = self._told.get(name)
        if type(value) is not int or not low <= value <= high:
            raise self._broken(f"{name} is not a number from {low} to {high}")
        return value

    def exit_code(self, name: str = "exit_code") -> int | None:
        """Returns the exit code, negative for a signal; None if the field is null or missing."""
        return self.number(name, -255, 255) if self.has(name) else None

    def seconds(self, name: str) -> float:
        """Returns Unix seconds, between the years 1 and 9999."""
        value = self._told.get(name)
        if not isinstance(value, int | float) or not -62_135_596_800 <= value < 253_402_300_800:
            raise self._broken(f"{name} is not a time")
        return float(value)

    def flag(self, name: str) -> bool:
        value = self._told.get(name, False)
        if type(value) is not bool:
            raise self._broken(f"{name} is not a boolean")
        return value

    def texts(self, name: str, most: int = 100, default: Iterable[str] | None = None) -> list[str]:
        if default is not None and not self.has(name):
            return list(default)
        return [_clean(self._text(value, name, 8_192)) for value in self._list(name, most)]

    def pairs(self, name: str, most: int = 1_000) -> list[tuple[int, int]]:
        """Returns a list of pairs of numbers; empty if the field is missing."""
        if not self.has(name):
            return []
        pairs = self._list(name, most)
        if not all(isinstance(pair, list) and [type(part) for part in pair] == [int, int] for pair in pairs):
            raise self._broken(f"{name} is not a list of pairs of numbers")
        return [(pair[0], pair[1]) for pair in pairs]

    def each(self, name: str, most: int) -> "list[Reply]":
        """Returns a list of at most `most` objects."""
        return [self._inner(value, name) for value in self._list(name, most)]

    def inner(self, name: str) -> "Reply":
        return self._inner(self._told.get(name), name)

    def failure(self) -> errors.SandboxError | None:
        """Returns the error that the supervisor reported, as its exception type; None for an exception that a
        cell raised."""
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
            raise self._broken(f"{name} is not a text of at most {most} characters")
        return value

    def _list(self, name: str, most: int) -> list[Any]:
        value = self._told.get(name)
        if not isinstance(value, list) or len(value) > most:
            raise self._broken(f"{name} is not a list of at most {most} items")
        return value

    def _inner(self, value: Any, name: str) -> "Reply":
        if not isinstance(value, dict):
            raise self._broken(f"{name} is not an object")
        return Reply(value, self._broken)


def _clean(text: str) -> str:
    """Replaces lone surrogates: untrusted code can put them in any text, and encoding them would fail."""
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
