"""What a Response object repeats of its request: constant for all of a response's events."""

from typing import Any

import orjson

from portico.v1 import query_pb2

# Members of AgentRequest.extra_json that a Response has under the same name: their type, and what it says
# without them. Other protocols may have given another type, which is not repeated.
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
# What a Response may say and we have nothing to say about.
_UNKNOWN = ("access_programs", "image", "input_transformations", "moderation", "prompt_cache_diagnostics")
_FUNCTION = {"description": None, "parameters": None, "strict": None}


class Echo:
    """The request, as its responses repeat it."""

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
        told["tools"] = [told_tool(tool) for tool in request.tools]
        told["metadata"] = _strings(_object(request.metadata_json))
        self.fields = told
        self.background: bool = told["background"]
        self.model = parameters.model
        self.custom_tools = frozenset(tool.name for tool in request.tools if tool.type == "custom")
        reasoning = told["reasoning"]
        self.summarised = bool(reasoning["summary"] or reasoning.get("generate_summary"))


def told_tool(tool: query_pb2.Tool) -> dict[str, Any]:
    """A tool as it is repeated: without its credentials."""
    raw = _object(tool.raw_json)
    if raw and "function" not in raw:
        if raw.get("type") == "mcp":
            # Credentials go to the agent, and to nobody else.
            return {name: value for name, value in raw.items() if name not in ("authorization", "headers")}
        return {**_FUNCTION, **raw} if raw.get("type") == "function" else raw
    # A tool of another protocol.
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
    """Other protocols' metadata is any JSON; here it is texts."""
    return {
        name: value if isinstance(value, str) else orjson.dumps(value).decode()
        for name, value in metadata.items()
    }
