"""Converts messages to items: the messages of a request's input, and those stored in a session."""

from typing import Any

import orjson

from portico.gateways.openai.content_text import content_as_text, content_data, content_text
from portico.gateways.openai.responses.request.input_items import OURS
from portico.v1 import events_pb2 as pb

_ROLE = {pb.ROLE_SYSTEM: "system", pb.ROLE_ASSISTANT: "assistant", pb.ROLE_TOOL: "assistant"}
_CALLS = frozenset((pb.MESSAGE_TYPE_PLUGIN_CALL, pb.MESSAGE_TYPE_COMPONENT_CALL, pb.MESSAGE_TYPE_MCP_CALL))
_OUTPUTS = frozenset(
    (
        pb.MESSAGE_TYPE_FUNCTION_CALL_OUTPUT,
        pb.MESSAGE_TYPE_PLUGIN_CALL_OUTPUT,
        pb.MESSAGE_TYPE_COMPONENT_CALL_OUTPUT,
        pb.MESSAGE_TYPE_MCP_CALL_OUTPUT,
    )
)
_DATA_TYPES = {
    pb.MESSAGE_TYPE_MCP_LIST_TOOLS: "mcp_list_tools",
    pb.MESSAGE_TYPE_MCP_APPROVAL_REQUEST: "mcp_approval_request",
    pb.MESSAGE_TYPE_MCP_APPROVAL_RESPONSE: "mcp_approval_response",
}


def message_item(message: pb.Message, server_label: str = "portico") -> dict[str, Any]:
    """Converts one message to the item that it was made from, or that a response would contain for it."""
    kept = kept_in(message)
    if kept.get("raw"):
        return {**content_data(message.content[0]), "id": message.id}
    more = kept.get("item", {})
    if len(message.content) == 1 and message.content[0].WhichOneof("value") == "data_json":
        told = _data_item(message, content_data(message.content[0]), more, server_label)
        if told is not None:
            return {"id": message.id, "status": _status(message), **told, **_late(more)}
    parts = [_part(message, content, kept) for content in message.content]
    if message.type == pb.MESSAGE_TYPE_REASONING:
        summary = [part for part in parts if part["type"] == "summary_text"]
        return {
            "id": message.id,
            "type": "reasoning",
            "status": _status(message),
            "summary": summary,
            "content": [part for part in parts if part["type"] != "summary_text"],
            "encrypted_content": None,
            **more,
        }
    return {
        "id": message.id,
        "type": "message",
        "role": _ROLE.get(message.role, "user"),
        "status": _status(message),
        "content": parts,
        **more,
    }


def _late(more: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in more.items() if name != "type"}


def _data_item(
    message: pb.Message, data: dict[str, Any], more: dict[str, Any], server_label: str
) -> dict[str, Any] | None:
    """Returns an item made from the message's data; None if the data is ordinary content."""
    if message.type == pb.MESSAGE_TYPE_FUNCTION_CALL:
        if more.get("type") == "custom_tool_call":
            return {"type": "custom_tool_call", **_renamed(data, "arguments", "input")}
        return {"type": "function_call", **data, "arguments": content_as_text(data.get("arguments"))}
    if message.type in _OUTPUTS:
        output = data.get("output")
        told = output if isinstance(output, list) else content_as_text(output)
        return {"type": more.get("type", "function_call_output"), **data, "output": told}
    if message.type in _CALLS:
        return {
            "type": "mcp_call",
            "server_label": server_label,
            "output": None,
            "error": None,
            **{name: value for name, value in data.items() if name != "call_id"},
            "name": content_as_text(data.get("name")),
            "arguments": content_as_text(data.get("arguments")),
        }
    if message.type in _DATA_TYPES:
        told_data = {name: value for name, value in data.items() if name != "id" or not message.id}
        return {"type": _DATA_TYPES[message.type], "server_label": server_label, **told_data}
    return None


def _renamed(data: dict[str, Any], name: str, other: str) -> dict[str, Any]:
    return {other if key == name else key: value for key, value in data.items()}


def kept_in(message: pb.Message) -> dict[str, Any]:
    """Returns the data that this gateway stored in a message's metadata."""
    if OURS not in message.metadata_json:
        return {}
    metadata = orjson.loads(message.metadata_json)
    kept = metadata.get(OURS) if isinstance(metadata, dict) else None
    return kept if isinstance(kept, dict) else {}


def _status(message: pb.Message) -> str:
    return "incomplete" if message.status == pb.RUN_STATUS_INCOMPLETE else "completed"


def _part(message: pb.Message, content: pb.Content, kept: dict[str, Any]) -> dict[str, Any]:
    more = kept.get("content", {}).get(str(content.index), {})
    if more.get("raw"):
        return content_data(content)
    said = message.role in (pb.ROLE_ASSISTANT, pb.ROLE_TOOL)
    match content.WhichOneof("value"):
        case "text":
            if message.type == pb.MESSAGE_TYPE_REASONING:
                return {"type": "reasoning_text", "text": content.text, **more}
            if not said:
                return {"type": "input_text", "text": content.text, **more}
            return {"type": "output_text", "text": content.text, "annotations": [], "logprobs": [], **more}
        case "refusal":
            return {"type": "refusal", "refusal": content.refusal, **more}
        case "image" if not said or more:
            told = {"type": "input_image", "image_url": content.image.image_url, "detail": "auto"}
            return {**told, "file_id": None, **more}
        case "file" if not said or more:
            return {"type": "input_file", **_file(content.file), **more}
        case "audio" if not said or more:
            audio = {"data": content.audio.data, "format": content.audio.format}
            return {"type": "input_audio", "input_audio": audio, **more}
    text = content_text(content) or ""
    if said:
        return {"type": "output_text", "text": text, "annotations": [], "logprobs": []}
    return {"type": "input_text", "text": text}


def _file(file: pb.FileContent) -> dict[str, str]:
    names = ("file_url", "file_id", "filename", "file_data")
    return {name: getattr(file, name) for name in names if getattr(file, name)}
