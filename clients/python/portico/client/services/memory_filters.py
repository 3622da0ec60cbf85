"""Builds filters of memories from plain Python values."""

from collections.abc import Mapping
from typing import Any, TypeAlias

from google.protobuf import json_format
from google.protobuf.struct_pb2 import Value

from portico.client.convert import enum_number
from portico.v1 import memory_pb2

FilterLike: TypeAlias = memory_pb2.MetadataFilter | Mapping[str, Any] | None


def to_filter(value: FilterLike) -> memory_pb2.MetadataFilter | None:
    """Converts a dict in the shape of a filter; a filter of the contract is returned unchanged.

    {"all": [{"path": ["year"], "operator": "ge", "value": 2020}], "any": [[...], [...]]}: all conditions
    of `all` must hold, and at least one condition of each list in `any`. A path of one name may be that
    name.

    Raises:
        ValueError: The dict has another shape.
    """
    if value is None or isinstance(value, memory_pb2.MetadataFilter):
        return value
    _check_names(value, ("all", "any"))
    return memory_pb2.MetadataFilter(
        all=[_condition(each) for each in value.get("all", ())],
        any=[
            memory_pb2.MetadataAlternatives(conditions=[_condition(each) for each in group])
            for group in value.get("any", ())
        ],
    )


def _condition(value: Mapping[str, Any]) -> memory_pb2.MetadataCondition:
    _check_names(value, ("path", "operator", "value"))
    path = value.get("path", ())
    operator = enum_number(memory_pb2.MetadataOperator, str(value.get("operator", "")), "METADATA_OPERATOR_")
    condition = memory_pb2.MetadataCondition(
        path=[path] if isinstance(path, str) else path, operator=operator
    )
    if "value" in value:
        try:
            condition.value.CopyFrom(json_format.ParseDict(value["value"], Value()))
        except json_format.ParseError as error:
            raise ValueError(f"a filter's value must be JSON: {error}") from None
    return condition


def _check_names(value: Mapping[str, Any], names: tuple[str, ...]) -> None:
    if not isinstance(value, Mapping):
        raise ValueError(f"part of a filter must be a dict with {', '.join(names)}")
    for name in value:
        if name not in names:
            raise ValueError(f"a filter has no {name!r} beside {', '.join(names)}")
