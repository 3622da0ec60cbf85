"""Filters of memories as SQL conditions: each tests one row of a memory's members."""

import time
from collections.abc import Iterator
from dataclasses import fields

from sqlalchemy import ColumnElement, FromClause, and_, exists, or_

from portico.core.stores.ports.json_fields import JsonKind, encode_path
from portico.core.stores.ports.memory_filters import (
    EQUALS_AS_TEXT,
    ORDERS,
    Condition,
    MetadataFilter,
    Operator,
    Scalar,
    canonical_text,
    kind_of,
)
from portico.core.stores.ports.stores import MemoryRecord
from portico.core.stores.sql.schema import memories, memory_members

# The columns of a MemoryRecord.
MEMORY_COLUMNS = tuple(memories.c[field.name] for field in fields(MemoryRecord))


def not_expired() -> ColumnElement[bool]:
    """Return the condition that a memory has not expired."""
    return or_(memories.c.expires_at.is_(None), memories.c.expires_at > time.time())


def filter_conditions(filter: MetadataFilter, number: ColumnElement[int]) -> Iterator[ColumnElement[bool]]:
    """Yield the conditions of a filter on the memory with this number."""
    for group in filter.groups:
        yield or_(*(_holds(condition, number) for condition in group))


def _holds(condition: Condition, number: ColumnElement[int]) -> ColumnElement[bool]:
    member = memory_members.alias()
    fits = exists().where(
        member.c.number == number, member.c.name == encode_path(condition.path), *_fits(condition, member)
    )
    return ~fits if condition.negated else fits


def _fits(condition: Condition, member: FromClause) -> Iterator[ColumnElement[bool]]:
    match condition.operator:
        case Operator.EXISTS:
            return
        case Operator.IN:
            yield or_(*_one_of(condition.values, member))
        case Operator.PREFIX:
            (prefix,) = condition.values
            yield member.c.kind == JsonKind.TEXT.value
            yield from _begins(member.c.text, str(prefix))
        case op if op == EQUALS_AS_TEXT:
            yield member.c.text == condition.values[0]
        case _:
            (value,) = condition.values
            kind = kind_of(value)
            own = member.c.number_value if kind is JsonKind.NUMBER else member.c.text
            yield member.c.kind == kind.value
            yield ORDERS[condition.operator](own, value)


def _one_of(values: tuple[Scalar, ...], member: FromClause) -> Iterator[ColumnElement[bool]]:
    for kind in dict.fromkeys(map(kind_of, values)):
        same = [value for value in values if kind_of(value) is kind]
        is_kind = member.c.kind == kind.value
        if kind is JsonKind.TEXT:
            yield and_(is_kind, member.c.text.in_(same))
        elif kind is JsonKind.NUMBER:
            yield and_(is_kind, member.c.number_value.in_(same))
        elif kind is JsonKind.BOOLEAN:
            yield and_(is_kind, member.c.text.in_([canonical_text(value) for value in same]))
        else:
            yield is_kind


def _begins(text: ColumnElement[str], prefix: str) -> Iterator[ColumnElement[bool]]:
    # A range, because LIKE has wildcards, and both LIKE and substr() stop at a NUL character.
    yield text >= prefix
    behind = _behind(prefix)
    if behind:
        yield text < behind


def _behind(prefix: str) -> str:
    """Return the first text greater than all texts with the prefix; empty if there is none."""
    prefix = prefix.rstrip("\U0010ffff")
    if not prefix:
        return ""
    code = ord(prefix[-1]) + 1
    return prefix[:-1] + chr(0xE000 if code == 0xD800 else code)
