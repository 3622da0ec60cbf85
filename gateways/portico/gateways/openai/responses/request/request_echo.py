"""The request parameters that a Response object repeats, constant for all events of a response."""

from typing import Any

import orjson

from portico.v1 import query_pb2

# Members of AgentRequest.extra_json that a Response has under the same name: their type, and their default.
# Values of another type, from other protocols, are not repeated.
_SAME: dict[str, tuple[type | tuple[type, ...], Any]] = {
    "background": (bool, False),
    "conversation": (dict, None),
    "instructions": ((str, list), None),
    "max_tool_calls": (int, None),
    "parallel_tool_calls": (bool, True),
    "previous_response_id": (str, None),
    "prompt": (dict, None),
    "prompt_cache_key": (str, None),
    "prompt_cache_options": (dict, None),
    "prompt_cache_retention": (str, None),
    "safety_identifier": (str, None),
    "store": (bool, True),
    "tool_choice": ((str, dict), "auto"),
    "top_logprobs": (int, 0),
    "truncation": (str, "disabled"),
    "user": (str, None),
}
# Members of a Response for which this gateway has no value.
_UNKNOWN = ("access_programs", "image", "input_transformations", "moderation", "prompt_cache_diagnostics")
_FUNCTION = {"description": None, "parameters": None, "strict": None}


class RequestEcho:
    """The request parameters as a Response repeats them."""

    def __init__(self, request: query_pb2.AgentRequest, *, background: bool = False) -> None:
        extra = _object(request.extra_json)
        parameters = request.parameters
        told: dict[str, Any] = {}
        for name, (kind, default) in _SAME.items():
            value = extra.get(name)
            told[name] = value if isinstance(value, kind) else default
        told |= dict.fromkeys(_UNKNOWN)
        if background:
            told["background"] = True
        tier = extra.get("service_tier")
        told["service_tier"] = tier if isinstance(tier, str) and tier != "auto" else "default"
        told["temperature"] = parameters.temperature if parameters.HasField("temperature") else 1.0
        told["top_p"] = parameters.top_p if parameters.HasField("top_p") else 1.0
        told["frequency_penalty"] = (
            parameters.frequency_penalty if parameters.HasField("frequency_penalty") else 0.0
        )
        told["presence_penalty"] = (
            parameters.presence_penalty if parameters.HasField("presence_penalty") else 0.0
        )
        told["max_output_tokens"] = parameters.max_tokens if parameters.HasField("max_tokens") else None
        told["reasoning"] = {"effort": None, "summary": None, **_dict(extra.get("reasoning"))}
        told["text"] = {"format": {"type": "text"}, **_dict(extra.get("text"))}
        told["tools"] = [tool_json(tool) for tool in request.tools]
        told["metadata"] = _strings(_object(request.metadata_json))
        self.fields = told
        self.background: bool = told["background"]
        self.model = parameters.model
        self.custom_tools = frozenset(tool.name for tool in request.tools if tool.type == "custom")
        reasoning = told["reasoning"]
        self.summarised = bool(reasoning["summary"] or reasoning.get("generate_summary"))


def tool_json(tool: query_pb2.Tool) -> dict[str, Any]:
    """Returns a tool for clients, without its credentials."""
    raw = _object(tool.raw_json)
    if raw and "function" not in raw:
        if raw.get("type") == "mcp":
            # Credentials are for the agent only.
            return {name: value for name, value in raw.items() if name not in ("authorization", "headers")}
        return {**_FUNCTION, **raw} if raw.get("type") == "function" else raw
    # A tool from another protocol.
    return {
        "type": "function",
        "name": tool.name,
        "description": tool.description or None,
        "parameters": _object(tool.parameters_json) or None,
        "strict": None,
    }


def _object(text: str) -> dict[str, Any]:
    value = orjson.loads(text) if text else None
    return value if isinstance(value, dict) else {}


def _dict(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def _strings(metadata: dict[str, Any]) -> dict[str, str]:
    """Converts metadata to strings; in other protocols its values may be any JSON."""
    return {
        name: value if isinstance(value, str) else orjson.dumps(value).decode()
        for name, value in metadata.items()
    }
