"""The members of a memory's metadata, as filters compare them: the same in every store."""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, TypeAlias

PATH_NAMES = 8  # what is deeper has no path
NAME_CHARACTERS = 256  # what has a longer name has none either
VALUE_CHARACTERS = 1024  # of a text that a filter compares with

Path: TypeAlias = tuple[str, ...]


class Kind(StrEnum):
    """What JSON makes of a value."""

    TEXT = "text"
    NUMBER = "number"
    BOOLEAN = "boolean"
    NULL = "null"
    OBJECT = "object"
    ARRAY = "array"


@dataclass(frozen=True, slots=True)
class Member:
    """A value at its path."""

    kind: Kind
    # As it is written, true and false too; one character more than any filter has, so that what is longer
    # is neither equal to it nor in another order.
    text: str | None = None
    number: float | None = None


class _Number(str):
    """A number as it is written."""


def members(metadata: str) -> Mapping[Path, Member]:
    """All that have a path. Raises ValueError for what is not JSON."""
    if not metadata:
        return {}
    value = json.loads(metadata, parse_int=_Number, parse_float=_Number)
    return dict(_within(value, ()))


def path_name(path: Path) -> str:
    """The path as one text."""
    return json.dumps(path, ensure_ascii=False, separators=(",", ":"))


def _within(value: dict[str, Any], path: Path) -> Iterator[tuple[Path, Member]]:
    for name, member in value.items():
        if len(name) > NAME_CHARACTERS:
            continue
        place = (*path, name)
        yield place, _member(member)
        if isinstance(member, dict) and len(place) < PATH_NAMES:
            yield from _within(member, place)


def _member(value: Any) -> Member:
    if isinstance(value, _Number):
        return Member(Kind.NUMBER, _cut(value), float(value))
    if isinstance(value, str):
        return Member(Kind.TEXT, _cut(value))
    if isinstance(value, bool):
        return Member(Kind.BOOLEAN, "true" if value else "false")
    if value is None:
        return Member(Kind.NULL)
    return Member(Kind.OBJECT if isinstance(value, dict) else Kind.ARRAY)


def _cut(text: str) -> str:
    return str(text[: VALUE_CHARACTERS + 1])
