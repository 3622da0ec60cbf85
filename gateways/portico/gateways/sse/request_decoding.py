"""Converts a request's JSON to protobuf messages; errors name the path of the invalid value.

The format is AgentScope Runtime's AgentRequest. Fields unknown to both it and Portico reach the agent as
`request.extra`.
"""

from typing import Any

from portico.gateways.http.errors import BadRequest
from portico.gateways.http.request import body_fields
from portico.gateways.http.request.budget_json import read_budget
from portico.gateways.http.request.tool_definitions import read_tool
from portico.v1 import events_pb2 as pb
from portico.v1 import query_pb2

_ROLES = {name.removeprefix("ROLE_").lower(): number for name, number in pb.Role.items() if number}
_TYPES = {
    name.removeprefix("MESSAGE_TYPE_").lower(): number for name, number in pb.MessageType.items() if number
}
_STATUSES = {
    name.removeprefix("RUN_STATUS_").lower(): number for name, number in pb.RunStatus.items() if number
}
_POLICIES = {
    name.removeprefix("SESSION_BUSY_POLICY_").lower(): number
    for name, number in query_pb2.SessionBusyPolicy.items()
    if number
}
_FLOATS = ("top_p", "temperature", "frequency_penalty", "presence_penalty")
_INTEGERS = {"max_tokens": 2**31 - 1, "n": 2**31 - 1, "seed": 2**63 - 1}
_KNOWN = frozenset(
    ("input", "stream", "id", "model", "stop", "tools", "session_id", "user_id", "agent", "agent_name")
    + ("metadata", "background", "idempotency_key", "if_session_busy", "timeout")
    + ("previous_run_id", "fork_session", "before_message_id", "ephemeral", "budget", "parent_run_id")
    + _FLOATS
    + tuple(_INTEGERS)
)


def query_request(value: dict[str, Any]) -> query_pb2.QueryRequest:
    """Converts a request to start a run. Raises BadRequest."""
    query = query_pb2.QueryRequest()
    request = query.request
    read_required_input(value, "input", request.input)
    request.session_id = body_fields.text(value, "session_id")
    request.user_id = body_fields.text(value, "user_id")
    request.agent_name = body_fields.text(value, "agent") or body_fields.text(value, "agent_name")
    request.request_id = body_fields.text(value, "id")
    _parameters(value, request)
    _tools(value.get("tools"), request)
    if (metadata := value.get("metadata")) is not None:
        request.metadata_json = body_fields.object_text(metadata, "metadata")
    extra = {name: item for name, item in value.items() if name not in _KNOWN}
    if extra:
        request.extra_json = body_fields.dump(extra, next(iter(extra)))
    query.background = body_fields.read_bool(value, "background")
    query.idempotency_key = body_fields.text(value, "idempotency_key")
    query.previous_run_id = body_fields.text(value, "previous_run_id")
    query.fork_session = body_fields.read_bool(value, "fork_session")
    query.before_message_id = body_fields.text(value, "before_message_id")
    query.ephemeral = body_fields.read_bool(value, "ephemeral")
    query.parent_run_id = body_fields.text(value, "parent_run_id")
    if (budget := value.get("budget")) is not None:
        read_budget(budget, "budget", query.budget)
    if (policy := value.get("if_session_busy")) is not None:
        query.if_session_busy = body_fields.choice(policy, _POLICIES, "if_session_busy")
    if (timeout := value.get("timeout")) is not None:
        seconds = body_fields.number(timeout, "timeout")
        if not 0 < seconds <= 10**9:
            raise BadRequest("timeout: must be a number of seconds above 0", field="timeout")
        query.timeout.FromNanoseconds(int(seconds * 1e9))
    return query


def wants_stream(value: dict[str, Any]) -> bool:
    """Returns the body's `stream`, true by default. Raises BadRequest."""
    stream = value.get("stream")
    if stream is None:
        return True
    if not isinstance(stream, bool):
        raise BadRequest("stream: must be true or false", field="stream")
    return stream


def read_required_input(value: dict[str, Any], name: str, target: Any) -> None:
    """Reads the messages in a required field of the body. Raises BadRequest."""
    if name not in value:
        raise BadRequest(f"{name}: is required", field=name)
    read_input(value[name], target, name)


def read_input(value: Any, target: Any, field: str) -> None:
    """Reads a list of messages, or a string as one user message. Raises BadRequest."""
    if isinstance(value, str):
        target.add(role=pb.ROLE_USER).content.add(type=pb.CONTENT_TYPE_TEXT).text = value
        return
    if not isinstance(value, list):
        raise BadRequest(f"{field}: must be a list of messages or a string", field=field)
    for index, item in enumerate(value):
        read_message(item, target.add(), f"{field}[{index}]")


def read_message(value: Any, message: pb.Message, field: str) -> None:
    """Reads one message. Raises BadRequest."""
    if not isinstance(value, dict):
        raise BadRequest(f"{field}: must be an object", field=field)
    message.id = body_fields.text(value, "id", field)
    if (role := value.get("role")) is not None:
        message.role = body_fields.choice(role, _ROLES, f"{field}.role")
    if (kind := value.get("type")) is not None:
        message.type = body_fields.choice(kind, _TYPES, f"{field}.type")
    if (status := value.get("status")) is not None:
        message.status = body_fields.choice(status, _STATUSES, f"{field}.status")
    if (metadata := value.get("metadata")) is not None:
        message.metadata_json = body_fields.object_text(metadata, f"{field}.metadata")
    body = value.get("content")
    if body is None:
        return
    if isinstance(body, str):
        message.content.add(type=pb.CONTENT_TYPE_TEXT).text = body
        return
    if not isinstance(body, list):
        raise BadRequest(f"{field}.content: must be a list of contents or a string", field=f"{field}.content")
    for index, part in enumerate(body):
        _content(part, message.content.add(index=index), f"{field}.content[{index}]")


def _content(value: Any, content: pb.Content, field: str) -> None:
    if not isinstance(value, dict):
        raise BadRequest(f"{field}: must be an object", field=field)
    match value.get("type"):
        case "text":
            content.type = pb.CONTENT_TYPE_TEXT
            content.text = body_fields.required(value, "text", field)
        case "data":
            content.type = pb.CONTENT_TYPE_DATA
            content.data_json = body_fields.object_text(value.get("data"), f"{field}.data")
        case "image":
            content.type = pb.CONTENT_TYPE_IMAGE
            content.image.image_url = body_fields.required(value, "image_url", field)
        case "audio":
            content.type = pb.CONTENT_TYPE_AUDIO
            content.audio.data = body_fields.required(value, "data", field)
            content.audio.format = body_fields.text(value, "format", field)
        case "file":
            content.type = pb.CONTENT_TYPE_FILE
            content.file.SetInParent()
            for name in ("file_url", "file_id", "filename", "file_data"):
                setattr(content.file, name, body_fields.text(value, name, field))
        case "refusal":
            content.type = pb.CONTENT_TYPE_REFUSAL
            content.refusal = body_fields.required(value, "refusal", field)
        case "video":
            content.type = pb.CONTENT_TYPE_VIDEO
            content.video.video_url = body_fields.required(value, "video_url", field)
        case other:
            known = "text, data, image, audio, file, refusal, video"
            raise BadRequest(
                f"{field}.type: must be one of {known}, not {body_fields.quote_value(other)}",
                field=f"{field}.type",
            )


def _parameters(value: dict[str, Any], request: query_pb2.AgentRequest) -> None:
    if value.get("model") is not None:
        request.parameters.model = body_fields.text(value, "model")
    for name in _FLOATS:
        if (item := value.get(name)) is not None:
            setattr(request.parameters, name, body_fields.number(item, name))
    for name, most in _INTEGERS.items():
        if (item := value.get(name)) is not None:
            if isinstance(item, bool) or not isinstance(item, int) or abs(item) > most:
                raise BadRequest(f"{name}: must be a whole number", field=name)
            setattr(request.parameters, name, item)
    if (stop := value.get("stop")) is not None:
        texts = [stop] if isinstance(stop, str) else stop
        if not isinstance(texts, list) or not all(isinstance(text, str) for text in texts):
            raise BadRequest("stop: must be a string or a list of strings", field="stop")
        request.parameters.stop.extend(texts)


def _tools(value: Any, request: query_pb2.AgentRequest) -> None:
    if value is None:
        return
    if not isinstance(value, list):
        raise BadRequest("tools: must be a list", field="tools")
    for index, item in enumerate(value):
        field = f"tools[{index}]"
        if not isinstance(item, dict):
            raise BadRequest(f"{field}: must be an object", field=field)
        # Either {type, function: {name, ...}} or the function's fields themselves.
        function = item.get("function") if isinstance(item.get("function"), dict) else item
        assert isinstance(function, dict)
        name, kind = body_fields.required(function, "name", field), body_fields.text(item, "type", field)
        request.tools.append(read_tool(function, item, name, kind, field))
