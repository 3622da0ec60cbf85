"""Parses clients' JSON, with a limit on its depth so that it can be embedded in other JSON."""

from collections.abc import Iterable
from typing import Any

from portico.gateways.http.errors import BadRequest
from portico.gateways.http.request import body_fields

# orjson reads 1,024 levels and writes 254, and parsed values are written inside other objects.
MAX_DEPTH = 128


def load(body: bytes | str) -> dict[str, Any]:
    """Parses a JSON object. Raises BadRequest, which names a member that is nested too deeply."""
    value = body_fields.load(body)
    for name in deep_members(value, body):
        raise BadRequest(f"{name}: nested more than {MAX_DEPTH} levels deep", field=name)
    return value


def deep_members(value: dict[str, Any], source: bytes | str) -> list[str]:
    """Returns the names of an object's members that are nested too deeply; `source` is the object's JSON."""
    # Shortcut: most bodies have fewer brackets in total.
    if _brackets(source) <= MAX_DEPTH:
        return []
    return [name for name, member in value.items() if is_deep(member)]


def is_deep(value: Any) -> bool:
    """Returns whether lists and objects are nested more than MAX_DEPTH levels deep."""
    level = [value]
    for _ in range(MAX_DEPTH + 1):
        level = [item for inside in level if isinstance(inside, dict | list) for item in _items(inside)]
        if not level:
            return False
    return True


def _brackets(body: bytes | str) -> int:
    return (
        body.count(b"[") + body.count(b"{") if isinstance(body, bytes) else body.count("[") + body.count("{")
    )


def _items(value: dict[str, Any] | list[Any]) -> Iterable[Any]:
    return value.values() if isinstance(value, dict) else value
