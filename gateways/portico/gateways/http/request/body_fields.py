"""Reads the fields of a JSON body; each function raises BadRequest with the path of the invalid value."""

from typing import Any

import orjson

from portico.gateways.http.errors import BadRequest


def load(body: bytes | str) -> dict[str, Any]:
    """Parses a JSON object. Raises BadRequest: 400 for invalid JSON, 422 for another JSON type."""
    try:
        value = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise BadRequest(f"the body is not JSON: {error}", status=400) from None
    if not isinstance(value, dict):
        raise BadRequest("the body must be a JSON object", status=422)
    return value


def dump(value: Any, field: str = "") -> str:
    """Returns the value as JSON text. Raises BadRequest when it is nested too deeply."""
    try:
        return orjson.dumps(value).decode()
    except orjson.JSONEncodeError:
        # The value came from orjson's parser, which accepts deeper nesting than its writer.
        problem = "nested too deeply"
        raise BadRequest(f"{field}: {problem}" if field else problem, field=field) from None


def quote_value(value: Any) -> str:
    """Formats a value for an error message, at most 60 characters."""
    if isinstance(value, dict | list):
        return "an object" if isinstance(value, dict) else "a list"
    return "nothing" if value is None else repr(value)[:60]


def text(value: dict[str, Any], name: str, parent: str = "") -> str:
    """Returns a string field; empty if it is missing or null."""
    item = value.get(name)
    if item is None:
        return ""
    if not isinstance(item, str):
        field = f"{parent}.{name}" if parent else name
        raise BadRequest(f"{field}: must be a string", field=field)
    return item


def required(value: dict[str, Any], name: str, parent: str) -> str:
    """Returns a string field that must be present."""
    if value.get(name) is None:
        raise BadRequest(f"{parent}.{name}: is required", field=f"{parent}.{name}")
    return text(value, name, parent)


def object_text(value: Any, field: str) -> str:
    """Returns an object as JSON text."""
    if not isinstance(value, dict):
        raise BadRequest(f"{field}: must be an object", field=field)
    return dump(value, field)


def read_bool(value: dict[str, Any], name: str) -> bool:
    """Returns a boolean field; false if it is missing or null."""
    item = value.get(name)
    if item is None:
        return False
    if not isinstance(item, bool):
        raise BadRequest(f"{name}: must be true or false", field=name)
    return item


def number(value: Any, field: str) -> float:
    """Returns a number as float."""
    if isinstance(value, bool) or not isinstance(value, int | float) or abs(value) > 1e300:
        raise BadRequest(f"{field}: must be a number", field=field)
    return float(value)


def choice(value: Any, choices: dict[str, Any], field: str) -> Any:
    """Returns the value that `choices` has for a string."""
    if not isinstance(value, str) or value not in choices:
        raise BadRequest(
            f"{field}: must be one of {', '.join(choices)}, not {quote_value(value)}", field=field
        )
    return choices[value]
