"""What a kernel may say at the end of a cell or a checkpoint: only what its own code says, or user code has
written it.
"""

from collections.abc import Callable
from typing import Any, Final

from . import wire

_ERROR: Final = {"name": 1_000, "message": 10_000, "traceback": 100_000, "limit": 50}  # characters


def check(answer: dict[str, Any]) -> None:
    """Raises BadFrame."""
    for name, value in answer.items():
        if name not in _FIELDS or not _FIELDS[name](value):
            raise wire.BadFrame("an end that is none")


def _is_count(value: Any) -> bool:
    return type(value) is int and 0 <= value < 1 << 31


def _is_error(value: Any) -> bool:
    """What a cell has raised, or why there is no checkpoint; no failure, which only the agent tells."""
    if not isinstance(value, dict):
        return value is None or _is_text(value, 1_000)
    limit = value.get("limit") or ""
    return value.keys() == _ERROR.keys() and all(
        _is_text(text, _ERROR[name]) for name, text in {**value, "limit": limit}.items()
    )


def _are_texts(value: Any) -> bool:
    return isinstance(value, list) and len(value) < 100 and all(_is_text(text, 1_000) for text in value)


def _is_text(value: Any, most: int) -> bool:
    return isinstance(value, str) and len(value) <= most


_FIELDS: Final[dict[str, Callable[[Any], bool]]] = {
    "count": _is_count,
    "error": _is_error,
    "checkpoints": _are_texts,
    "dropped": _are_texts,
}
