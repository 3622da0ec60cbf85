"""Checks a kernel's message at the end of a cell or a checkpoint: if the kernel's own code would not send it,
user code has forged it.
"""

from collections.abc import Callable
from typing import Any, Final

from . import wire

_ERROR: Final = {"name": 1_000, "message": 10_000, "traceback": 100_000, "limit": 50}  # characters


def check(answer: dict[str, Any], operation: str) -> None:
    """Raises BadFrame for a message that the kernel's own code would not send."""
    if operation == "cell":
        fits = all(name in _CELL and _CELL[name](value) for name, value in answer.items())
    else:
        fits = len(answer) == 1 and (
            _is_text(answer.get("error"), 1_000) or _are_texts(answer.get("checkpoints"))
        )
    if not fits:
        raise wire.BadFrame("an invalid end")


def _is_count(value: Any) -> bool:
    return type(value) is int and 0 <= value < 1 << 31


def _is_error(value: Any) -> bool:
    """Whether it describes an exception of a cell; it must not be a failure, which only the supervisor
    reports."""
    if value is None:
        return True
    if not isinstance(value, dict) or value.keys() != _ERROR.keys():
        return False
    limit = value["limit"] or ""
    return all(_is_text(text, _ERROR[name]) for name, text in {**value, "limit": limit}.items())


def _are_texts(value: Any) -> bool:
    return isinstance(value, list) and len(value) < 100 and all(_is_text(text, 1_000) for text in value)


def _is_text(value: Any, most: int) -> bool:
    return isinstance(value, str) and len(value) <= most


_CELL: Final[dict[str, Callable[[Any], bool]]] = {
    "count": _is_count,
    "error": _is_error,
    "dropped": _are_texts,
}
