"""Converts the body of POST /responses to a request of the contract; errors name the invalid parameter.

Parameters for which the contract has a field are stored there; all others are in `extra_json` under their own
names, where the agent sees them and request_echo.py reads them.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from portico.gateways.http.request import body_fields
from portico.gateways.openai.errors import OpenAiError, invalid, missing, unsupported
from portico.gateways.openai.openapi_errors import or_null
from portico.gateways.openai.responses.request.input_items import InputItems
from portico.gateways.openai.responses.request.offered_tools import read_tools
from portico.v1 import events_pb2 as pb
from portico.v1 import query_pb2

_INCLUDABLE = (
    "file_search_call.results",
    "web_search_call.results",
    "web_search_call.action.sources",
    "message.input_image.image_url",
    "computer_call_output.output.image_url",
    "code_interpreter_call.outputs",
    "reasoning.encrypted_content",
    "message.output_text.logprobs",
)
_TIERS = ("auto", "default", "flex", "scale", "priority", "fast", "ultrafast")


@dataclass(frozen=True, slots=True)
class Creation:
    """The request, and the references to resolve before it can start."""

    query: query_pb2.QueryRequest
    model: str
    stream: bool
    previous: str  # id of the previous response
    conversation: str
    references: list[tuple[pb.Message, str, str]]  # message to fill in, item id, path
    ids: dict[str, str]  # ids that items have, with their paths


def read_creation(body: dict[str, Any]) -> Creation:
    """Converts a body. Raises OpenAiError, BadRequest."""
    query = query_pb2.QueryRequest()
    request = query.request
    extra: dict[str, Any] = {}
    for name, value in body.items():
        if name in _ELSEWHERE or (name in _EXTRA and value is None):
            continue
        check = _EXTRA.get(name)
        if check is None:
            raise OpenAiError(f"Unknown parameter: '{name}'.", code="unknown_parameter", param=name)
        check(value, name)
        extra[name] = value
    _parameters(body, request.parameters)
    read_tools(body.get("tools"), request.tools)
    items = InputItems(request.input)
    if body.get("input") is None:
        raise missing("input")
    items.read(body["input"])
    if not request.input:
        raise invalid("input", "must have at least one item", "empty_array")
    if (metadata := body.get("metadata")) is not None:
        request.metadata_json = metadata_text(metadata)
    conversation = _conversation(extra)
    previous = extra.get("previous_response_id") or ""
    if conversation and previous:
        message = "'previous_response_id' and 'conversation' exclude each other."
        raise OpenAiError(message, code="mutually_exclusive_parameters", param="previous_response_id")
    if conversation:
        request.session_id = conversation
    elif not previous:
        request.user_id = extra.get("safety_identifier") or extra.get("user") or ""
    query.background = extra.get("background") is True
    query.ephemeral = extra.get("store") is False
    if (calls := extra.get("max_tool_calls")) is not None:
        query.budget.tool_calls = calls
    if query.background and query.ephemeral:
        message = "'background' requires 'store': true, since a background response is read later."
        raise OpenAiError(message, code="invalid_value", param="background")
    stream = body_fields.read_bool(body, "stream")
    _stream_options(body.get("stream_options"), stream=stream)
    if extra:
        request.extra_json = body_fields.dump(extra, next(iter(extra)))
    return Creation(
        query, body_fields.text(body, "model"), stream, previous, conversation, items.references, items.ids
    )


def metadata_text(value: Any) -> str:
    """Returns metadata as JSON text: at most 16 pairs of strings. Raises OpenAiError."""
    if not isinstance(value, dict):
        raise invalid("metadata", "must be an object of strings", "invalid_type")
    if len(value) > 16:
        raise invalid("metadata", "has more than 16 pairs", "object_above_max_properties")
    for name, item in value.items():
        if not isinstance(item, str):
            raise invalid(f"metadata.{name[:64]}", "must be a string", "invalid_type")
        if len(name) > 64:
            raise invalid("metadata", "has a key of more than 64 characters", "string_above_max_length")
        if len(item) > 512:
            raise invalid(f"metadata.{name}", "has more than 512 characters", "string_above_max_length")
    return body_fields.dump(value, "metadata")


def conversation_id(value: Any) -> str:
    """Returns the id from an id or an object with an id. Raises OpenAiError."""
    if isinstance(value, dict):
        value = value.get("id")
    if not isinstance(value, str) or not value:
        raise invalid("conversation", "must be an id, or an object with an id", "invalid_type")
    return value


def _conversation(extra: dict[str, Any]) -> str:
    if "conversation" not in extra:
        return ""
    id = conversation_id(extra["conversation"])
    extra["conversation"] = {"id": id}
    return id


def _stream_options(value: Any, *, stream: bool) -> None:
    if value is None:
        return
    if not isinstance(value, dict):
        raise invalid("stream_options", "must be an object", "invalid_type")
    if not stream:
        raise invalid("stream_options", "requires 'stream': true")
    for name in value:
        if name != "include_obfuscation":
            message = f"Unknown parameter: 'stream_options.{name}'."
            raise OpenAiError(message, code="unknown_parameter", param=f"stream_options.{name}")
    body_fields.read_bool(value, "include_obfuscation")


def _parameters(body: dict[str, Any], parameters: query_pb2.ModelParameters) -> None:
    for name, least, most in (
        ("temperature", 0, 2),
        ("top_p", 0, 1),
        ("frequency_penalty", -2, 2),
        ("presence_penalty", -2, 2),
    ):
        if (item := body.get(name)) is not None:
            value = body_fields.number(item, name)
            if not least <= value <= most:
                raise invalid(name, f"must be from {least} to {most}", "decimal_out_of_range")
            setattr(parameters, name, value)
    if (item := body.get("max_output_tokens")) is not None:
        _count(item, "max_output_tokens")
        parameters.max_tokens = item


def _text(value: Any, name: str) -> None:
    if not isinstance(value, str):
        raise invalid(name, f"must be a string, not {body_fields.quote_value(value)}", "invalid_type")


def _flag(value: Any, name: str) -> None:
    if not isinstance(value, bool):
        raise invalid(name, f"must be true or false, not {body_fields.quote_value(value)}", "invalid_type")


def _object(value: Any, name: str) -> None:
    if not isinstance(value, dict):
        raise invalid(name, f"must be an object, not {body_fields.quote_value(value)}", "invalid_type")


def _list(value: Any, name: str) -> None:
    if not isinstance(value, list) or not all(isinstance(item, dict) for item in value):
        raise invalid(name, "must be a list of objects", "invalid_type")


def _count(value: Any, name: str) -> None:
    if isinstance(value, bool) or not isinstance(value, int):
        raise invalid(name, "must be a whole number", "invalid_type")
    if not 1 <= value < 2**31:
        raise invalid(name, "must be at least 1", "integer_below_min_value")


def _logprobs(value: Any, name: str) -> None:
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value <= 20:
        raise invalid(name, "must be a whole number from 0 to 20")


def _one_of(*words: str) -> Callable[[Any, str], None]:
    def check(value: Any, name: str) -> None:
        if not isinstance(value, str) or value not in words:
            raise invalid(name, f"must be one of {', '.join(words)}, not {body_fields.quote_value(value)}")

    return check


def check_include(value: Any, name: str = "include") -> None:
    """Checks `include`, which has no effect: each value is either always in the answer or not available here.
    Raises OpenAiError.
    """
    if not isinstance(value, list):
        raise invalid(name, "must be a list", "invalid_type")
    for index, item in enumerate(value):
        _one_of(*_INCLUDABLE)(item, f"{name}[{index}]")


def _tool_choice(value: Any, name: str) -> None:
    if isinstance(value, dict):
        if not isinstance(value.get("type"), str):
            raise missing(f"{name}.type")
    else:
        _one_of("none", "auto", "required")(value, name)


def _cache_options(value: Any, name: str) -> None:
    _object(value, name)
    if value.get("prewarm"):
        raise unsupported(f"{name}.prewarm", "This server has no prompt cache to prewarm.")


def _refused(value: Any, name: str) -> None:
    raise unsupported(name, f"This server does not support '{name}'; omit it.")


# Parameters that are passed on unchanged, and how each is checked.
_EXTRA: dict[str, Callable[[Any, str], None]] = {
    "background": _flag,
    "context_management": _list,
    "conversation": lambda value, name: None,
    "image": _object,
    "include": check_include,
    "instructions": _text,
    "max_tool_calls": _count,
    "parallel_tool_calls": _flag,
    "previous_response_id": _text,
    "prompt": _object,
    "prompt_cache_key": _text,
    "prompt_cache_options": _cache_options,
    "prompt_cache_retention": _one_of("in_memory", "in-memory", "24h"),
    "reasoning": _object,
    "safety_identifier": _text,
    "service_tier": _one_of(*_TIERS),
    "store": _flag,
    "text": _object,
    "tool_choice": _tool_choice,
    "top_logprobs": _logprobs,
    "truncation": _one_of("auto", "disabled"),
    "user": _text,
    # Parameters that would change the answer and that this server does not support.
    "access_programs": _refused,
    "moderation": _refused,
}
_ELSEWHERE = frozenset(
    ("input", "model", "stream", "stream_options", "metadata", "tools", "temperature", "top_p")
    + ("frequency_penalty", "presence_penalty", "max_output_tokens")
)

_SCHEMAS: dict[Any, dict[str, Any]] = {
    _flag: {"type": "boolean"},
    _object: {"type": "object"},
    _list: {"type": "array", "items": {"type": "object"}},
    _count: {"type": "integer", "minimum": 1},
    _text: {"type": "string"},
    check_include: {"type": "array", "items": {"type": "string", "enum": list(_INCLUDABLE)}},
}


def body_schema() -> dict[str, Any]:
    """Returns the schemas of the body's members for OpenAPI."""
    items: dict[str, Any] = {"type": "array", "items": {"type": "object"}}
    number = {"type": "number"}
    told: dict[str, Any] = {
        "model": {"type": "string", "description": "The agent's name; the default agent if omitted."},
        "input": {"anyOf": [{"type": "string"}, items]},
        "stream": {"type": "boolean"},
        "stream_options": {"type": "object"},
        "metadata": {"type": "object", "maxProperties": 16, "additionalProperties": {"type": "string"}},
        "tools": items,
        "max_output_tokens": {"type": "integer", "minimum": 1},
        **dict.fromkeys(("temperature", "top_p", "frequency_penalty", "presence_penalty"), number),
    }
    for name, check in _EXTRA.items():
        if check is not _refused:
            told[name] = _SCHEMAS.get(check, {})
    # A null member counts as omitted.
    return {name: schema if name == "input" else or_null(schema) for name, schema in told.items()}
