"""Reads the members of a memory's JSON metadata for filters, so that all stores compare them equally."""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, TypeAlias

PATH_NAMES = 8  # the most names of a path; deeper members can't be filtered by
NAME_CHARACTERS = 256  # members with longer names can't be filtered by
VALUE_CHARACTERS = 1024  # the longest text that a filter compares with

Path: TypeAlias = tuple[str, ...]


class JsonKind(StrEnum):
    """The JSON type of a value."""

    TEXT = "text"
    NUMBER = "number"
    BOOLEAN = "boolean"
    NULL = "null"
    OBJECT = "object"
    ARRAY = "array"


@dataclass(frozen=True, slots=True)
class JsonField:
    """The value of a member."""

    kind: JsonKind
    # The value as written in JSON, also for numbers, true and false. It is cut to one character more than a
    # filter's longest text, which keeps a longer text unequal to it, and in the same order.
    text: str | None = None
    number: float | None = None


class _Number(str):
    """A number as written in JSON."""


def flatten_fields(metadata: str) -> Mapping[Path, JsonField]:
    """Return the members that a filter can use, by path. Raises ValueError for invalid JSON."""
    if not metadata:
        return {}
    value = json.loads(metadata, parse_int=_Number, parse_float=_Number)
    return dict(_within(value, ()))


def encode_path(path: Path) -> str:
    """Encode a path as one text."""
    return json.dumps(path, ensure_ascii=False, separators=(",", ":"))


def _within(value: dict[str, Any], path: Path) -> Iterator[tuple[Path, JsonField]]:
    for name, member in value.items():
        if len(name) > NAME_CHARACTERS:
            continue
        place = (*path, name)
        yield place, _member(member)
        if isinstance(member, dict) and len(place) < PATH_NAMES:
            yield from _within(member, place)


def _member(value: Any) -> JsonField:
    if isinstance(value, _Number):
        return JsonField(JsonKind.NUMBER, _cut(value), float(value))
    if isinstance(value, str):
        return JsonField(JsonKind.TEXT, _cut(value))
    if isinstance(value, bool):
        return JsonField(JsonKind.BOOLEAN, "true" if value else "false")
    if value is None:
        return JsonField(JsonKind.NULL)
    return JsonField(JsonKind.OBJECT if isinstance(value, dict) else JsonKind.ARRAY)


def _cut(text: str) -> str:
    return str(text[: VALUE_CHARACTERS + 1])
