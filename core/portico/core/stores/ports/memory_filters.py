"""Filters of memories by the members of their JSON metadata.

A filter is JSON: `{"all": [condition, ...], "any": [[condition, ...], ...]}`. A condition is
`{"path": ["name", ...], "operator": "eq", "value": ...}`; a path of one name can be given as a string.
All conditions of `all` must hold, and at least one condition of each list in `any`.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from math import isfinite
from operator import ge, gt, le, lt
from typing import Any, TypeAlias

from portico.core.errors import InvalidArgument
from portico.core.stores.ports.json_fields import (
    NAME_CHARACTERS,
    PATH_NAMES,
    VALUE_CHARACTERS,
    JsonField,
    JsonKind,
    Path,
)

CONDITIONS = 32
IN_VALUES = 100

Scalar: TypeAlias = str | float | bool | None


class Operator(StrEnum):
    """How a member is compared. Values of different kinds are never equal, less or greater."""

    EQ = "eq"
    NE = "ne"
    LT = "lt"
    LE = "le"
    GT = "gt"
    GE = "ge"
    IN = "in"
    NOT_IN = "not_in"
    EXISTS = "exists"
    PREFIX = "prefix"


EQUALS_AS_TEXT = "as_text"  # compares the member as written in JSON with a text, for any kind
ORDERS: Mapping[str, Callable[[Any, Any], Any]] = {
    Operator.LT: lt,
    Operator.LE: le,
    Operator.GT: gt,
    Operator.GE: ge,
}


@dataclass(frozen=True, slots=True)
class Condition:
    """A comparison of one member with values: several for `in`, none for `exists`, otherwise one."""

    path: Path
    operator: str
    values: tuple[Scalar, ...]
    negated: bool = False

    def matches(self, members: Mapping[Path, JsonField]) -> bool:
        member = members.get(self.path)
        return (member is not None and self._fits(member)) != self.negated

    def _fits(self, member: JsonField) -> bool:
        if self.operator == Operator.EXISTS:
            return True
        if self.operator == EQUALS_AS_TEXT:
            return member.text == self.values[0]
        if self.operator == Operator.IN:
            return any(_equal(member, value) for value in self.values)
        (value,) = self.values
        if member.kind != kind_of(value):
            return False
        if self.operator == Operator.PREFIX:
            return str(member.text).startswith(str(value))
        own = member.number if member.kind is JsonKind.NUMBER else member.text
        return bool(ORDERS[self.operator](own, value))


@dataclass(frozen=True, slots=True)
class MetadataFilter:
    """A conjunction of groups: of each group at least one condition must hold."""

    groups: tuple[tuple[Condition, ...], ...] = ()

    def matches(self, members: Mapping[Path, JsonField]) -> bool:
        return all(any(condition.matches(members) for condition in group) for group in self.groups)


MATCH_ALL = MetadataFilter()


def kind_of(value: Scalar) -> JsonKind:
    if value is None:
        return JsonKind.NULL
    if isinstance(value, bool):
        return JsonKind.BOOLEAN
    return JsonKind.TEXT if isinstance(value, str) else JsonKind.NUMBER


def canonical_text(value: Scalar) -> str:
    """Return a boolean as written in JSON."""
    return "true" if value else "false"


def parse_filter(
    asked: Mapping[str, Any] | None, as_text: Mapping[str, str] | None = None, field: str = "filter"
) -> MetadataFilter:
    """Read a filter.

    Args:
        asked: The filter as JSON.
        as_text: Top-level members that must equal these texts, compared as written in JSON.
        field: Field name in errors.

    Raises:
        InvalidArgument: The filter is invalid.
    """
    groups: list[tuple[Condition, ...]] = [
        (Condition((_name(name, "metadata"),), EQUALS_AS_TEXT, (_text(value, "metadata"),)),)
        for name, value in (as_text or {}).items()
    ]
    groups += _groups(asked or {}, field)
    if sum(map(len, groups)) > CONDITIONS:
        raise InvalidArgument(field, f"more than {CONDITIONS} conditions")
    return MetadataFilter(tuple(groups))


def _groups(asked: Mapping[str, Any], field: str) -> Iterator[tuple[Condition, ...]]:
    _only(asked, ("all", "any"), field)
    for index, condition in enumerate(_list(asked.get("all", ()), f"{field}.all")):
        yield (_condition(condition, f"{field}.all[{index}]"),)
    for index, group in enumerate(_list(asked.get("any", ()), f"{field}.any")):
        place = f"{field}.any[{index}]"
        conditions = _list(group, place)
        if not conditions:
            raise InvalidArgument(place, "at least one condition is required")
        yield tuple(_condition(each, f"{place}[{number}]") for number, each in enumerate(conditions))


def _condition(asked: object, field: str) -> Condition:
    if not isinstance(asked, Mapping):
        raise InvalidArgument(field, "must be a condition: path, operator and value")
    _only(asked, ("path", "operator", "value"), field)
    path = asked.get("path")
    names = [path] if isinstance(path, str) else _list(path, f"{field}.path")
    if not 1 <= len(names) <= PATH_NAMES:
        raise InvalidArgument(f"{field}.path", f"must have 1 to {PATH_NAMES} names")
    place = tuple(_name(name, f"{field}.path") for name in names)
    try:
        operator = Operator(asked.get("operator", ""))
    except ValueError:
        raise InvalidArgument(f"{field}.operator", f"must be one of {', '.join(Operator)}") from None
    if "value" not in asked:
        raise InvalidArgument(f"{field}.value", "is required")
    return _compared(place, operator, asked["value"], f"{field}.value")


def _compared(path: Path, operator: Operator, value: Any, field: str) -> Condition:
    match operator:
        case Operator.EXISTS:
            if not isinstance(value, bool):
                raise InvalidArgument(field, "must be true or false")
            return Condition(path, operator, (), negated=not value)
        case Operator.IN | Operator.NOT_IN:
            values = _list(value, field)
            if not 1 <= len(values) <= IN_VALUES:
                raise InvalidArgument(field, f"must be a list of 1 to {IN_VALUES} values")
            scalars = tuple(_scalar(each, f"{field}[{index}]") for index, each in enumerate(values))
            return Condition(path, Operator.IN, scalars, negated=operator is Operator.NOT_IN)
        case Operator.EQ | Operator.NE:
            return Condition(path, Operator.IN, (_scalar(value, field),), negated=operator is Operator.NE)
        case Operator.PREFIX:
            return Condition(path, operator, (_text(value, field),))
    scalar = _scalar(value, field)
    if kind_of(scalar) not in (JsonKind.TEXT, JsonKind.NUMBER):
        raise InvalidArgument(field, "must be a text or a number")
    return Condition(path, operator, (scalar,))


def _scalar(value: Any, field: str) -> Scalar:
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, str):
        return _text(value, field)
    if isinstance(value, int | float):
        try:
            number = float(value)
        except OverflowError:
            number = float("inf")
        if isfinite(number):
            return number
    raise InvalidArgument(field, "must be a text, a number, true, false or null")


def _text(value: Any, field: str) -> str:
    if not isinstance(value, str):
        raise InvalidArgument(field, "must be a text")
    if len(value) > VALUE_CHARACTERS:
        raise InvalidArgument(field, f"more than {VALUE_CHARACTERS} characters")
    return str(value)


def _name(value: Any, field: str) -> str:
    if not isinstance(value, str):
        raise InvalidArgument(field, "must be a name or a list of names")
    if len(value) > NAME_CHARACTERS:
        raise InvalidArgument(field, f"has a name of more than {NAME_CHARACTERS} characters")
    return str(value)


def _list(value: Any, field: str) -> Sequence[Any]:
    if isinstance(value, list | tuple):
        return value
    raise InvalidArgument(field, "must be a list")


def _only(asked: Mapping[str, Any], names: Iterable[str], field: str) -> None:
    for name in asked:
        if name not in names:
            raise InvalidArgument(field, f"unknown member {name!r}; expected {', '.join(names)}")


def _equal(member: JsonField, value: Scalar) -> bool:
    kind = kind_of(value)
    if member.kind is not kind:
        return False
    match kind:
        case JsonKind.TEXT:
            return member.text == value
        case JsonKind.NUMBER:
            return member.number == value
        case JsonKind.BOOLEAN:
            return member.text == canonical_text(value)
    return True
