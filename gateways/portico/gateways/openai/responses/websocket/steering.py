"""Steering: input for a response in progress, checked and passed to its run, and tracked until the agent
reads it.
"""

from dataclasses import dataclass, field
from typing import Any
from uuid import uuid4

from portico.gateways.http.errors import BadRequest
from portico.gateways.openai.errors import OpenAiError, invalid
from portico.gateways.openai.responses.request.input_items import InputItems
from portico.v1 import events_pb2 as pb
from portico.v1 import query_pb2

_MEMBERS = frozenset(("type", "previous_response_id", "input"))
_CODES = {
    "RUN_TERMINAL": "response_already_completed",
    "RUN_NOT_FOUND": "response_not_found",
    "LIMIT_EXCEEDED": "too_many_pending_steers",
    "UNIMPLEMENTED": "steering_not_supported",
}


@dataclass(slots=True)
class Steer:
    """One submitted input."""

    previous: str
    input: Any  # as received
    id: str = field(default_factory=lambda: f"steer_{uuid4().hex}")
    messages: list[pb.Message] = field(default_factory=list)

    @property
    def items(self) -> list[Any]:
        """The input as items."""
        if isinstance(self.input, str):
            return [{"type": "message", "role": "user", "content": self.input}]
        return list(self.input)


def read_steer(body: dict[str, Any]) -> Steer:
    """Converts a body. Raises OpenAiError, BadRequest."""
    for name in body:
        if name not in _MEMBERS:
            raise OpenAiError(f"Unknown parameter: '{name}'.", code="unknown_parameter", param=name)
    previous = body.get("previous_response_id")
    if not isinstance(previous, str) or not previous:
        raise invalid("previous_response_id", "must be the id of a response", "invalid_type")
    value = body.get("input")
    if isinstance(value, list):
        for index, item in enumerate(value):
            if (
                not isinstance(item, dict)
                or item.get("role") != "user"
                or item.get("type", "message") != "message"
            ):
                raise invalid(f"input[{index}]", "must be a message with role user")
    read = query_pb2.AgentRequest()
    InputItems(read.input).read(value)
    if not read.input:
        raise invalid("input", "must have at least one item", "empty_array")
    steer = Steer(previous, value, messages=list(read.input))
    for message in steer.messages:
        # Identifies the messages when the run has read them.
        message.id = f"msg_{uuid4().hex}"
    return steer


def accepted_event(steer: Steer) -> dict[str, Any]:
    """Returns the event for input that was passed to the run."""
    told = {"id": steer.id, "previous_response_id": steer.previous}
    return {"type": "response.steer.accepted", "steer": told}


def pending_event(steer: Steer, required: list[dict[str, Any]]) -> dict[str, Any]:
    """Returns the event for input that waits for outputs of the caller's tools."""
    return {
        "type": "response.steer.pending",
        "reason": "waiting_for_required_input",
        "required_input": required,
        "steer": {"id": steer.id, "previous_response_id": steer.previous},
    }


def failed_event(previous: Any, input: Any, code: str, message: str, id: str = "") -> dict[str, Any]:
    """Returns the event for input that was not accepted, with the input for another attempt."""
    told: dict[str, Any] = {"previous_response_id": previous, "input": input}
    if id:
        told["id"] = id
    error = {"type": "invalid_request_error", "code": code, "message": message}
    return {"type": "response.steer.failed", "error": error, "steer": told}


def failure_code(error: Exception) -> tuple[str, str]:
    """Returns the code and message for input that was not accepted."""
    if isinstance(error, OpenAiError | BadRequest):
        return "invalid_input", error.message
    reason = getattr(error, "reason", "")
    return _CODES.get(reason, "response_not_active"), str(error)


def required_input(response: dict[str, Any]) -> list[dict[str, Any]]:
    """Returns stubs of the items that a response needs from the caller: outputs of its calls, and
    approvals.
    """
    stubs: list[dict[str, Any]] = []
    for item in response["output"]:
        match item["type"]:
            case "function_call":
                stub = {"type": "function_call_output", "call_id": item["call_id"], "name": item["name"]}
            case "custom_tool_call":
                stub = {"type": "custom_tool_call_output", "call_id": item["call_id"]}
            case "mcp_approval_request":
                stub = {"type": "mcp_approval_response", "approval_request_id": item["id"]}
            case _:
                continue
        stubs.append(stub)
    return stubs
