"""A request's JSON as the contract's messages: checked by hand, naming the path of what is wrong.

The shape is AgentScope Runtime's AgentRequest. What it does not know stays: a
field that neither it nor Portico has reaches the agent as `request.extra`.
"""

from typing import Any

import orjson

from portico.gateways.sse.errors import BadRequest
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
    + _FLOATS
    + tuple(_INTEGERS)
)


def load(body: bytes) -> dict[str, Any]:
    """A JSON object. Raises BadRequest (400)."""
    try:
        value = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise BadRequest(f"the body is not JSON: {error}", status=400) from None
    if not isinstance(value, dict):
        raise BadRequest("the body must be a JSON object", status=422)
    return value


def query_request(value: dict[str, Any]) -> query_pb2.QueryRequest:
    """A request to start a run. Raises BadRequest."""
    query = query_pb2.QueryRequest()
    request = query.request
    read_required_input(value, "input", request.input)
    request.session_id = _text(value, "session_id")
    request.user_id = _text(value, "user_id")
    request.agent_name = _text(value, "agent") or _text(value, "agent_name")
    request.request_id = _text(value, "id")
    _parameters(value, request)
    _tools(value.get("tools"), request)
    if (metadata := value.get("metadata")) is not None:
        request.metadata_json = _object(metadata, "metadata")
    extra = {name: item for name, item in value.items() if name not in _KNOWN}
    if extra:
        request.extra_json = dump(extra, next(iter(extra)))
    query.background = _flag(value, "background")
    query.idempotency_key = _text(value, "idempotency_key")
    if (policy := value.get("if_session_busy")) is not None:
        query.if_session_busy = _choice(policy, _POLICIES, "if_session_busy")
    if (timeout := value.get("timeout")) is not None:
        seconds = _number(timeout, "timeout")
        if not 0 < seconds <= 10**9:
            raise BadRequest("timeout: must be a number of seconds above 0", field="timeout")
        query.timeout.FromNanoseconds(int(seconds * 1e9))
    return query


def wants_stream(value: dict[str, Any]) -> bool:
    """The body's `stream`; true when it says nothing. Raises BadRequest."""
    stream = value.get("stream")
    if stream is None:
        return True
    if not isinstance(stream, bool):
        raise BadRequest("stream: must be true or false", field="stream")
    return stream


def read_required_input(value: dict[str, Any], name: str, target: Any) -> None:
    """The messages of a member of a body. Raises BadRequest."""
    if name not in value:
        raise BadRequest(f"{name}: is required", field=name)
    read_input(value[name], target, name)


def read_input(value: Any, target: Any, field: str) -> None:
    """Messages: a list of them, or a text for one of the user. Raises BadRequest."""
    if isinstance(value, str):
        target.add(role=pb.ROLE_USER).content.add(type=pb.CONTENT_TYPE_TEXT).text = value
        return
    if not isinstance(value, list):
        raise BadRequest(f"{field}: must be a list of messages, or a text", field=field)
    for index, item in enumerate(value):
        read_message(item, target.add(), f"{field}[{index}]")


def read_message(value: Any, message: pb.Message, field: str) -> None:
    """One message. Raises BadRequest."""
    if not isinstance(value, dict):
        raise BadRequest(f"{field}: must be an object", field=field)
    message.id = _text(value, "id", field)
    if (role := value.get("role")) is not None:
        message.role = _choice(role, _ROLES, f"{field}.role")
    if (kind := value.get("type")) is not None:
        message.type = _choice(kind, _TYPES, f"{field}.type")
    if (status := value.get("status")) is not None:
        message.status = _choice(status, _STATUSES, f"{field}.status")
    if (metadata := value.get("metadata")) is not None:
        message.metadata_json = _object(metadata, f"{field}.metadata")
    body = value.get("content")
    if body is None:
        return
    if isinstance(body, str):
        message.content.add(type=pb.CONTENT_TYPE_TEXT).text = body
        return
    if not isinstance(body, list):
        raise BadRequest(f"{field}.content: must be a list of contents, or a text", field=f"{field}.content")
    for index, part in enumerate(body):
        _content(part, message.content.add(index=index), f"{field}.content[{index}]")


def _content(value: Any, content: pb.Content, field: str) -> None:
    if not isinstance(value, dict):
        raise BadRequest(f"{field}: must be an object", field=field)
    match value.get("type"):
        case "text":
            content.type = pb.CONTENT_TYPE_TEXT
            content.text = _required(value, "text", field)
        case "data":
            content.type = pb.CONTENT_TYPE_DATA
            content.data_json = _object(value.get("data"), f"{field}.data")
        case "image":
            content.type = pb.CONTENT_TYPE_IMAGE
            content.image.image_url = _required(value, "image_url", field)
        case "audio":
            content.type = pb.CONTENT_TYPE_AUDIO
            content.audio.data = _required(value, "data", field)
            content.audio.format = _text(value, "format", field)
        case "file":
            content.type = pb.CONTENT_TYPE_FILE
            content.file.SetInParent()
            for name in ("file_url", "file_id", "filename", "file_data"):
                setattr(content.file, name, _text(value, name, field))
        case "refusal":
            content.type = pb.CONTENT_TYPE_REFUSAL
            content.refusal = _required(value, "refusal", field)
        case "video":
            content.type = pb.CONTENT_TYPE_VIDEO
            content.video.video_url = _required(value, "video_url", field)
        case other:
            known = "text, data, image, audio, file, refusal, video"
            raise BadRequest(
                f"{field}.type: must be one of {known}, not {_show(other)}", field=f"{field}.type"
            )


def _parameters(value: dict[str, Any], request: query_pb2.AgentRequest) -> None:
    if value.get("model") is not None:
        request.parameters.model = _text(value, "model")
    for name in _FLOATS:
        if (item := value.get(name)) is not None:
            setattr(request.parameters, name, _number(item, name))
    for name, most in _INTEGERS.items():
        if (item := value.get(name)) is not None:
            if isinstance(item, bool) or not isinstance(item, int) or abs(item) > most:
                raise BadRequest(f"{name}: must be a whole number", field=name)
            setattr(request.parameters, name, item)
    if (stop := value.get("stop")) is not None:
        texts = [stop] if isinstance(stop, str) else stop
        if not isinstance(texts, list) or not all(isinstance(text, str) for text in texts):
            raise BadRequest("stop: must be a text or a list of texts", field="stop")
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
        parameters = function.get("parameters")
        request.tools.add(
            name=_required(function, "name", field),
            description=_text(function, "description", field),
            parameters_json="" if parameters is None else _object(parameters, f"{field}.parameters"),
            type=_text(item, "type", field),
            raw_json=dump(item, field),
        )


def dump(value: Any, field: str = "") -> str:
    """JSON text. Raises BadRequest."""
    try:
        return orjson.dumps(value).decode()
    except orjson.JSONEncodeError:
        # It came from orjson's own parser, which goes deeper than its writer.
        problem = "nested too deeply"
        raise BadRequest(f"{field}: {problem}" if field else problem, field=field) from None


def _show(value: Any) -> str:
    if isinstance(value, dict | list):
        return "an object" if isinstance(value, dict) else "a list"
    return "nothing" if value is None else repr(value)[:60]


def _text(value: dict[str, Any], name: str, parent: str = "") -> str:
    item = value.get(name)
    if item is None:
        return ""
    if not isinstance(item, str):
        field = f"{parent}.{name}" if parent else name
        raise BadRequest(f"{field}: must be a text", field=field)
    return item


def _required(value: dict[str, Any], name: str, parent: str) -> str:
    if value.get(name) is None:
        raise BadRequest(f"{parent}.{name}: is required", field=f"{parent}.{name}")
    return _text(value, name, parent)


def _object(value: Any, field: str) -> str:
    if not isinstance(value, dict):
        raise BadRequest(f"{field}: must be an object", field=field)
    return dump(value, field)


def _flag(value: dict[str, Any], name: str) -> bool:
    item = value.get(name)
    if item is None:
        return False
    if not isinstance(item, bool):
        raise BadRequest(f"{name}: must be true or false", field=name)
    return item


def _number(value: Any, field: str) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or abs(value) > 1e300:
        raise BadRequest(f"{field}: must be a number", field=field)
    return float(value)


def _choice(value: Any, choices: dict[str, Any], field: str) -> Any:
    if not isinstance(value, str) or value not in choices:
        raise BadRequest(f"{field}: must be one of {', '.join(choices)}, not {_show(value)}", field=field)
    return choices[value]
