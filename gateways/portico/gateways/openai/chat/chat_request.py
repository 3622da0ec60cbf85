"""Converts the body of POST /chat/completions to a request of the contract; errors name the invalid
parameter.

Parameters for which the contract has a field are stored there; all others reach the agent under their own
names, as `request.extra`. Fields of messages and parts that the contract lacks are kept in the message's
metadata.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from portico.gateways.http.request import body_fields
from portico.gateways.http.request.tool_definitions import read_tool
from portico.gateways.openai.errors import invalid, missing, unsupported
from portico.gateways.openai.openapi_errors import or_null
from portico.v1 import events_pb2 as pb
from portico.v1 import query_pb2

_FLOATS = ("top_p", "temperature", "frequency_penalty", "presence_penalty")
_KNOWN = frozenset(
    ("messages", "model", "stream", "stream_options", "n", "store", "user", "safety_identifier", "metadata")
    + ("max_tokens", "max_completion_tokens", "stop", "seed", "tools")
    + _FLOATS
)
_ROLES = {
    "system": pb.ROLE_SYSTEM,
    "developer": pb.ROLE_SYSTEM,
    "user": pb.ROLE_USER,
    "assistant": pb.ROLE_ASSISTANT,
}
# Message fields that are converted; `name` and all others become metadata.
_MESSAGE_FIELDS = frozenset(
    ("role", "content", "refusal", "reasoning_content", "tool_calls", "tool_call_id", "function_call")
)
_PARTS = "text, image_url, input_audio, file, video_url, refusal"


@dataclass(frozen=True, slots=True)
class ChatRequest:
    """The request, and the form of its answer."""

    query: query_pb2.QueryRequest
    model: str  # as sent by the caller
    stream: bool
    include_usage: bool


def chat_request(body: dict[str, Any]) -> ChatRequest:
    """Converts a body. The agent's name is left empty, since the meaning of `model` depends on the path.
    Raises OpenAiError, BadRequest.
    """
    query = query_pb2.QueryRequest()
    request = query.request
    _messages(body.get("messages"), request)
    _parameters(body, request.parameters)
    _tools(body.get("tools"), request)
    _only_one(body.get("n"))
    request.user_id = body_fields.text(body, "user") or body_fields.text(body, "safety_identifier")
    if (metadata := body.get("metadata")) is not None:
        request.metadata_json = body_fields.object_text(metadata, "metadata")
    extra = {name: item for name, item in body.items() if name not in _KNOWN}
    if extra:
        request.extra_json = body_fields.dump(extra, next(iter(extra)))
    # Every call contains the whole history; storing each run would store it again each time.
    query.ephemeral = not body_fields.read_bool(body, "store")
    options = body.get("stream_options") or {}
    if not isinstance(options, dict):
        raise invalid("stream_options", "must be an object", "invalid_type")
    return ChatRequest(
        query,
        body_fields.text(body, "model"),
        body_fields.read_bool(body, "stream"),
        body_fields.read_bool(options, "include_usage"),
    )


def body_schema() -> dict[str, Any]:
    """Returns the schema of the body. Parameters that are not listed reach the agent."""
    objects = {"type": "array", "items": {"type": "object"}}
    texts = {"anyOf": [{"type": "string"}, {"type": "array", "items": {"type": "string"}}]}
    told: dict[str, Any] = {
        "model": {"type": "string", "description": "The agent's name."},
        "tools": objects,
        "stop": texts,
        "seed": {"type": "integer"},
        "n": {"type": "integer", "minimum": 1, "maximum": 1},
        **{key: {"type": "integer"} for key in ("max_tokens", "max_completion_tokens")},
        **{key: {"type": "boolean"} for key in ("stream", "store")},
        **{key: {"type": "object"} for key in ("stream_options", "metadata")},
        **{key: {"type": "string"} for key in ("user", "safety_identifier")},
        **{key: {"type": "number"} for key in _FLOATS},
    }
    return {
        "type": "object",
        "required": ["messages"],
        "properties": {
            "messages": {**objects, "minItems": 1},
            **{name: or_null(schema) for name, schema in told.items()},
        },
    }


def _only_one(n: Any) -> None:
    if n is None or (n == 1 and not isinstance(n, bool)):
        return
    if isinstance(n, int) and n > 1:
        raise unsupported("n", f"An agent gives one answer: 'n' must be 1, not {n}.")
    raise invalid("n", "must be 1")


def _parameters(body: dict[str, Any], parameters: query_pb2.ModelParameters) -> None:
    for name in _FLOATS:
        if (item := body.get(name)) is not None:
            setattr(parameters, name, body_fields.number(item, name))
    for name in ("max_tokens", "max_completion_tokens"):  # the newer name takes precedence
        if (item := body.get(name)) is not None:
            parameters.max_tokens = _whole(item, name, 2**31 - 1)
    if (seed := body.get("seed")) is not None:
        parameters.seed = _whole(seed, "seed", 2**63 - 1)
    if (stop := body.get("stop")) is not None:
        texts = [stop] if isinstance(stop, str) else stop
        if not isinstance(texts, list) or not all(isinstance(text, str) for text in texts):
            raise invalid("stop", "must be a string or a list of strings", "invalid_type")
        parameters.stop.extend(texts)


def _whole(value: Any, name: str, most: int) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or abs(value) > most:
        raise invalid(name, "must be a whole number", "invalid_type")
    return value


def _tools(value: Any, request: query_pb2.AgentRequest) -> None:
    if value is None:
        return
    if not isinstance(value, list):
        raise invalid("tools", "must be a list", "invalid_type")
    for index, item in enumerate(value):
        field = f"tools[{index}]"
        tool = _object(item, field)
        kind = body_fields.text(tool, "type", field) or "function"
        # {type, function: {name, ...}}, {type, custom: {name, ...}}, or the fields themselves.
        inner = tool.get(kind)
        told: dict[str, Any] = inner if isinstance(inner, dict) else tool
        name = body_fields.text(told, "name", field)
        if not name and kind in ("function", "custom"):
            raise missing(f"{field}.{kind}.name")
        request.tools.append(read_tool(told, tool, name or kind, kind, field))


def _messages(value: Any, request: query_pb2.AgentRequest) -> None:
    if value is None:
        raise missing("messages")
    if not isinstance(value, list):
        raise invalid(
            "messages", f"must be a list of messages, not {body_fields.quote_value(value)}", "invalid_type"
        )
    if not value:
        raise invalid("messages", "must have at least one message", "empty_array")
    names: dict[str, str] = {}  # call id to the name of the called function
    for index, item in enumerate(value):
        field = f"messages[{index}]"
        message = _object(item, field)
        role = message.get("role")
        if role in ("tool", "function"):
            _tool_output(message, request, names, field)
        elif isinstance(role, str) and role in _ROLES:
            _said(message, _ROLES[role], request, field)
            _calls(message, request, names, field)
        elif role is None:
            raise missing(f"{field}.role")
        else:
            known = "system, developer, user, assistant, tool"
            raise invalid(f"{field}.role", f"must be one of {known}, not {body_fields.quote_value(role)}")
    if not request.input:
        raise invalid("messages", "must contain at least one message with content")


def _said(
    message: dict[str, Any], role: pb.Role.ValueType, request: query_pb2.AgentRequest, field: str
) -> None:
    if reasoning := body_fields.text(message, "reasoning_content", field):
        # Clients of reasoning models send the reasoning back.
        thought = request.input.add(type=pb.MESSAGE_TYPE_REASONING, role=role)
        thought.content.add(type=pb.CONTENT_TYPE_TEXT).text = reasoning
    content, refusal = message.get("content"), body_fields.text(message, "refusal", field)
    if content is None and not refusal:
        if role != pb.ROLE_ASSISTANT:
            raise missing(f"{field}.content")
        return
    said = pb.Message(type=pb.MESSAGE_TYPE_MESSAGE, role=role)
    more = {name: item for name, item in message.items() if name not in _MESSAGE_FIELDS and item is not None}
    if details := _contents(content, said, f"{field}.content"):
        more["parts"] = details
    if refusal:
        said.content.add(type=pb.CONTENT_TYPE_REFUSAL).refusal = refusal
    if more:
        said.metadata_json = body_fields.dump(more, field)
    if said.content:
        request.input.append(said)


def _contents(value: Any, message: pb.Message, field: str) -> dict[str, Any]:
    """Adds the contents to the message; returns their fields that it can't hold, by index."""
    if value is None:
        return {}
    if isinstance(value, str):
        message.content.add(type=pb.CONTENT_TYPE_TEXT).text = value
        return {}
    if not isinstance(value, list):
        raise invalid(field, "must be a string or a list of parts", "invalid_type")
    details = {}
    for index, item in enumerate(value):
        part = _object(item, f"{field}[{index}]")
        if more := _part(part, message.content.add(index=index), f"{field}[{index}]"):
            details[str(index)] = more
    return details


def _part(part: dict[str, Any], content: pb.Content, field: str) -> dict[str, Any]:
    """Fills in a content; returns the fields that it can't hold."""
    kind = part.get("type")
    match kind:
        case "text":
            content.type = pb.CONTENT_TYPE_TEXT
            content.text = _required(part, "text", field)
            return {}
        case "refusal":
            content.type = pb.CONTENT_TYPE_REFUSAL
            content.refusal = _required(part, "refusal", field)
            return {}
        case "image_url" | "video_url":
            given = part.get(kind)
            field = f"{field}.{kind}"
            # AgentScope's clients send the URL itself where OpenAI's send an object.
            inner = {"url": given} if isinstance(given, str) else _object(given, field)
            url = _required(inner, "url", field)
            if kind == "image_url":
                content.type = pb.CONTENT_TYPE_IMAGE
                content.image.image_url = url
            else:
                content.type = pb.CONTENT_TYPE_VIDEO
                content.video.video_url = url
            return _rest(inner, "url")
        case "input_audio":
            inner = _object(part.get(kind), f"{field}.{kind}")
            content.type = pb.CONTENT_TYPE_AUDIO
            content.audio.data = _required(inner, "data", f"{field}.{kind}")
            content.audio.format = body_fields.text(inner, "format", f"{field}.{kind}")
            return {}
        case "file":
            inner = _object(part.get(kind), f"{field}.{kind}")
            content.type = pb.CONTENT_TYPE_FILE
            return _file(inner, content.file, f"{field}.{kind}")
        case None:
            raise missing(f"{field}.type")
    raise invalid(f"{field}.type", f"must be one of {_PARTS}, not {body_fields.quote_value(kind)}")


def _file(value: dict[str, Any], file: pb.FileContent, field: str) -> dict[str, Any]:
    """Fills in a file. OpenAI's file_data is a data: URL; the contract's is the base64 text in it."""
    file.SetInParent()
    for name in ("file_id", "filename", "file_url"):
        setattr(file, name, body_fields.text(value, name, field))
    data = body_fields.text(value, "file_data", field)
    head, base64, text = data.partition(";base64,")
    if not (file.file_id or file.file_url or data):
        raise missing(f"{field}.file_data")
    if not (base64 and head.startswith("data:")):
        file.file_data = data
        return {}
    file.file_data = text
    return {"media_type": head.removeprefix("data:")} if head != "data:" else {}


def _calls(
    message: dict[str, Any], request: query_pb2.AgentRequest, names: dict[str, str], field: str
) -> None:
    calls = message.get("tool_calls")
    if calls is not None and not isinstance(calls, list):
        raise invalid(f"{field}.tool_calls", "must be a list", "invalid_type")
    for index, item in enumerate(calls or ()):
        at = f"{field}.tool_calls[{index}]"
        call = _object(item, at)
        kind = body_fields.text(call, "type", at) or "function"
        inner = _object(call.get(kind), f"{at}.{kind}")
        arguments = body_fields.text(inner, "input" if kind == "custom" else "arguments", f"{at}.{kind}")
        _call(request, names, _required(call, "id", at), _required(inner, "name", f"{at}.{kind}"), arguments)
    if (old := message.get("function_call")) is not None:
        at = f"{field}.function_call"
        inner = _object(old, at)
        name = _required(inner, "name", at)
        _call(request, names, name, name, body_fields.text(inner, "arguments", at))


def _call(
    request: query_pb2.AgentRequest, names: dict[str, str], call_id: str, name: str, arguments: str
) -> None:
    names[call_id] = name
    told = {"call_id": call_id, "name": name, "arguments": arguments}
    message = request.input.add(type=pb.MESSAGE_TYPE_FUNCTION_CALL, role=pb.ROLE_ASSISTANT)
    message.content.add(type=pb.CONTENT_TYPE_DATA).data_json = body_fields.dump(told)


def _tool_output(
    message: dict[str, Any], request: query_pb2.AgentRequest, names: Mapping[str, str], field: str
) -> None:
    # Functions, the predecessors of tools, are identified by name only.
    call_id = _required(message, "name" if message["role"] == "function" else "tool_call_id", field)
    held = pb.Message()
    _contents(message.get("content"), held, f"{field}.content")
    if all(content.HasField("text") for content in held.content):
        output = "".join(content.text for content in held.content)
    else:
        output = body_fields.dump(message["content"], f"{field}.content")
    name = names.get(call_id) or body_fields.text(message, "name", field)
    told = {"call_id": call_id, "name": name, "output": output}
    answer = request.input.add(type=pb.MESSAGE_TYPE_FUNCTION_CALL_OUTPUT, role=pb.ROLE_TOOL)
    answer.content.add(type=pb.CONTENT_TYPE_DATA).data_json = body_fields.dump(told)


def _object(value: Any, field: str) -> dict[str, Any]:
    if value is None:
        raise missing(field)
    if not isinstance(value, dict):
        raise invalid(field, f"must be an object, not {body_fields.quote_value(value)}", "invalid_type")
    return value


def _required(value: dict[str, Any], name: str, parent: str) -> str:
    if value.get(name) is None:
        raise missing(f"{parent}.{name}")
    return body_fields.text(value, name, parent)


def _rest(value: dict[str, Any], *names: str) -> dict[str, Any]:
    return {name: item for name, item in value.items() if name not in names and item is not None}
