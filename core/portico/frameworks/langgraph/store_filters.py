"""Converts the part of a LangGraph search that the database can evaluate.

A condition here accepts everything that LangGraph's own comparison accepts, and possibly more: that
comparison is Python's, where 1 equals True and a missing member is None. The caller applies LangGraph's
comparison to the results.
"""

from collections.abc import Iterator, Mapping, Sequence
from math import isfinite
from typing import Any, TypeAlias

from portico.frameworks.langgraph.store_items import NAMESPACE, VALUE_CHARACTERS, kept_by, namespace_text

Condition: TypeAlias = Mapping[str, Any]
Group: TypeAlias = list[Condition]  # at least one must hold

_NAME_CHARACTERS = 256  # maximum length of a member's name in a path
_CONDITIONS = 30  # of the 32 that a filter may have
_ORDERS = {"$gt": "gt", "$gte": "ge", "$lt": "lt", "$lte": "le"}


def below(prefix: Sequence[str], wanted: Mapping[str, Any] | None = None, *, old: bool) -> dict[str, Any]:
    """Returns a filter for items of these namespaces and values; with `old`, all items of earlier versions
    match too.
    """
    text = namespace_text(prefix)[:VALUE_CHARACTERS]
    place: Group = [{"path": NAMESPACE, "operator": "prefix", "value": text}]
    if old:
        place.append(kept_by())
    groups = [place]
    left = _CONDITIONS
    for group in _groups(wanted or {}):
        left -= len(group)
        if left < 0:
            break
        groups.append(group)
    return {"any": groups}


def _groups(wanted: Mapping[str, Any]) -> Iterator[Group]:
    for name, value in wanted.items():
        if not isinstance(name, str) or len(name) > _NAME_CHARACTERS:
            continue
        path = ["value", name]
        if isinstance(value, Mapping):
            for operator, operand in value.items():
                yield from _compared(path, operator, operand)
        else:
            yield from _equal(path, value)


def _compared(path: list[str], operator: str, operand: Any) -> Iterator[Group]:
    if operator == "$eq":
        yield from _equal(path, operand)
    elif operator == "$ne" and operand is None:
        yield [{"path": path, "operator": "exists", "value": True}]
    elif operator == "$ne" and isinstance(operand, str) and _fits(operand):
        yield [{"path": path, "operator": "ne", "value": operand}]
    elif operator in _ORDERS and _is_number(operand) and _fits(operand):
        # LangGraph converts texts and booleans to numbers.
        yield [
            {"path": path, "operator": _ORDERS[operator], "value": operand},
            {"path": path, "operator": "prefix", "value": ""},
            {"path": path, "operator": "in", "value": [True, False]},
        ]


def _equal(path: list[str], value: Any) -> Iterator[Group]:
    if not _fits(value):
        return
    if value is None:
        yield [
            {"path": path, "operator": "eq", "value": None},
            {"path": path, "operator": "exists", "value": False},
        ]
    elif value in (0, 1):
        yield [{"path": path, "operator": "in", "value": [int(value), bool(value)]}]
    else:
        yield [{"path": path, "operator": "eq", "value": value}]


def _fits(value: Any) -> bool:
    """Returns whether a condition of the core can compare the value."""
    if isinstance(value, str):
        return len(value) <= VALUE_CHARACTERS
    return value is None or isinstance(value, bool) or _is_number(value)


def _is_number(value: Any) -> bool:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return False
    try:
        return isfinite(float(value))
    except OverflowError:
        return False
