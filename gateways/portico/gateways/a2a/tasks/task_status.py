"""Converts a run's status to a task's state and status message."""

from a2a.types import a2a_pb2 as a2a
from google.protobuf.struct_pb2 import Struct

from portico.gateways.a2a.tasks.message_parts import json_struct
from portico.gateways.http.request.budget_json import used_json
from portico.v1 import events_pb2 as pb

STATES = {
    pb.RUN_STATUS_CREATED: a2a.TASK_STATE_SUBMITTED,
    pb.RUN_STATUS_QUEUED: a2a.TASK_STATE_SUBMITTED,
    pb.RUN_STATUS_IN_PROGRESS: a2a.TASK_STATE_WORKING,
    pb.RUN_STATUS_COMPLETED: a2a.TASK_STATE_COMPLETED,
    pb.RUN_STATUS_CANCELED: a2a.TASK_STATE_CANCELED,
    pb.RUN_STATUS_FAILED: a2a.TASK_STATE_FAILED,
    pb.RUN_STATUS_REJECTED: a2a.TASK_STATE_REJECTED,
    pb.RUN_STATUS_INCOMPLETE: a2a.TASK_STATE_CANCELED,  # interrupted by a caller
    pb.RUN_STATUS_INPUT_REQUIRED: a2a.TASK_STATE_INPUT_REQUIRED,
}
ENDED = frozenset(
    (
        a2a.TASK_STATE_COMPLETED,
        a2a.TASK_STATE_CANCELED,
        a2a.TASK_STATE_FAILED,
        a2a.TASK_STATE_REJECTED,
    )
)
WAITING = frozenset((a2a.TASK_STATE_INPUT_REQUIRED, a2a.TASK_STATE_AUTH_REQUIRED))


def state_of(response: pb.Response) -> a2a.TaskState:
    """Returns the state of a task."""
    if response.status == pb.RUN_STATUS_INPUT_REQUIRED:
        authorization = response.input_request.kind == pb.INPUT_KIND_AUTHORIZATION
        return a2a.TASK_STATE_AUTH_REQUIRED if authorization else a2a.TASK_STATE_INPUT_REQUIRED
    return STATES.get(response.status, a2a.TASK_STATE_UNSPECIFIED)


def name_type(metadata: Struct, type: pb.MessageType.ValueType) -> None:
    """Stores a message's type in the metadata, in the words of the agent protocol."""
    metadata["type"] = pb.MessageType.Name(type).removeprefix("MESSAGE_TYPE_").lower()


def set_time(response: pb.Response, status: a2a.TaskStatus) -> None:
    """Sets the time of the status."""
    for field in ("status_time", "completed_time"):
        if response.HasField(field):
            status.timestamp.CopyFrom(getattr(response, field))
            return
    if response.status == pb.RUN_STATUS_CREATED:
        status.timestamp.CopyFrom(response.created_time)
    else:
        status.ClearField("timestamp")


def set_words(response: pb.Response, task: a2a.Task) -> None:
    """Sets the status message: the prompt of an input request, or the error."""
    if response.status == pb.RUN_STATUS_INPUT_REQUIRED:
        asked = response.input_request
        said, id = asked.prompt, asked.id
    elif response.HasField("error"):
        asked = None
        said, id = response.error.message or response.error.code, f"{response.id}_error"
    else:
        return
    message = task.status.message
    message.message_id = id
    message.task_id = task.id
    message.context_id = task.context_id
    message.role = a2a.ROLE_AGENT
    message.parts.add().text = said
    if asked is None:
        message.metadata["code"] = response.error.code
    elif asked.schema_json:
        schema = json_struct(asked.schema_json)
        if schema is not None:
            message.metadata.get_or_create_struct("schema").CopyFrom(schema)


def set_used(used: pb.BudgetUse, metadata: Struct) -> None:
    """Stores the used part of the run's budget in the metadata."""
    metadata.get_or_create_struct("portico.used").update(used_json(used))


def set_usage(usage: pb.Usage, metadata: Struct) -> None:
    """Stores the token usage in the metadata, unless the caller has a member of that name."""
    if "usage" in metadata:
        return  # the caller's own member
    told = metadata.get_or_create_struct("usage")
    told["input_tokens"] = usage.input_tokens
    told["output_tokens"] = usage.output_tokens
    told["total_tokens"] = usage.total_tokens
