"""Converts memories and metadata filters."""

from typing import Any

from google.protobuf.struct_pb2 import Value
from google.protobuf.timestamp_pb2 import Timestamp

from portico.core.convert.messages import load_object
from portico.core.convert.requests import check_id
from portico.core.convert.timestamps import seconds, timestamp
from portico.core.errors import InvalidArgument
from portico.core.stores.memory_checks import check_expiry, check_members, check_text, new_memory
from portico.core.stores.ports.memory_filters import MetadataFilter, Operator, parse_filter
from portico.core.stores.ports.stores import MemoryChanges, MemoryRecord
from portico.model.identity import user_of
from portico.v1 import memory_pb2 as pb

# An unset operator, or one of a newer contract, is missing here and counts as none.
_OPERATORS = {
    pb.MetadataOperator.Value(f"METADATA_OPERATOR_{operator.name}"): operator.value for operator in Operator
}


def memory_to_proto(record: MemoryRecord) -> pb.Memory:
    memory = pb.Memory(
        memory_id=record.memory_id,
        user_id=user_of(record.user_id),
        session_id=record.session_id,
        text=record.text,
        metadata_json=record.metadata,
        created_time=timestamp(record.created_at),
        key=record.key,
        updated_time=timestamp(record.updated_at),
    )
    if record.expires_at is not None:
        memory.expire_time.CopyFrom(timestamp(record.expires_at))
    return memory


def memory_from_proto(owner: str, memory: pb.Memory, field: str) -> MemoryRecord:
    """Makes a record of a new memory. Raises InvalidArgument."""
    load_object(memory.metadata_json, f"{field}.metadata_json")
    return new_memory(
        owner,
        memory.text,
        session_id=check_id(memory.session_id, f"{field}.session_id", required=False),
        metadata=memory.metadata_json,
        key=memory.key,
        created_at=_moment(memory, "created_time"),
        expires_at=_moment(memory, "expire_time"),
        field=f"{field}.",
    )


def changes_from_proto(request: pb.UpdateMemoryRequest) -> MemoryChanges:
    """The fields that the request's update_mask names. Raises InvalidArgument."""
    if not request.update_mask.paths:
        raise InvalidArgument("update_mask", "is required")
    memory = request.memory
    changes = MemoryChanges()
    for path in request.update_mask.paths:
        match path:
            case "text":
                check_text(memory.text, "memory.text")
                changes["text"] = memory.text
            case "metadata_json":
                load_object(memory.metadata_json, "memory.metadata_json")
                check_members(memory.metadata_json, "memory.metadata_json")
                changes["metadata"] = memory.metadata_json
            case "session_id":
                changes["session_id"] = check_id(memory.session_id, "memory.session_id", required=False)
            case "expire_time":
                changes["expires_at"] = _moment(memory, "expire_time")
                check_expiry(changes["expires_at"], "memory.expire_time")
            case _:
                raise InvalidArgument(
                    "update_mask",
                    f"unknown field {path!r}; expected one of text, metadata_json, session_id, expire_time",
                )
    return changes


def filter_from_proto(
    request: pb.SearchMemoriesRequest | pb.ListMemoriesRequest | pb.DeleteMemoriesRequest,
) -> MetadataFilter:
    """Raises InvalidArgument."""
    as_text = request.metadata if isinstance(request, pb.SearchMemoriesRequest) else None
    asked = {
        "all": [_condition(condition) for condition in request.filter.all],
        "any": [[_condition(condition) for condition in group.conditions] for group in request.filter.any],
    }
    return parse_filter(asked, as_text)


def _condition(condition: pb.MetadataCondition) -> dict[str, Any]:
    told: dict[str, Any] = {
        "path": list(condition.path),
        "operator": _OPERATORS.get(condition.operator, ""),
    }
    if condition.HasField("value"):
        told["value"] = _plain(condition.value)
    return told


def _plain(value: Value) -> Any:
    """A filter's value as a Python value. Objects, nested lists and unset values stay messages, which the
    check of the filter refuses."""
    match value.WhichOneof("kind"):
        case "null_value":
            return None
        case "string_value":
            return value.string_value
        case "number_value":
            return value.number_value
        case "bool_value":
            return value.bool_value
        case "list_value":
            within = value.list_value.values
            return [each if each.HasField("list_value") else _plain(each) for each in within]
    return value


def _moment(memory: pb.Memory, name: str) -> float | None:
    if not memory.HasField(name):  # type: ignore[arg-type]
        return None
    time: Timestamp = getattr(memory, name)
    if not 0 <= time.nanos < 1_000_000_000:
        raise InvalidArgument(name, "is not a valid time")
    return seconds(time)
