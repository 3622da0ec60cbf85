"""Converts items of a request to the contract's messages.

Nothing is lost: fields that a message can't hold are stored in its metadata, under `openai`, and
message_items.py restores them.
"""

from collections.abc import Callable
from typing import Any

from portico.gateways.http.request import body_fields
from portico.gateways.openai.errors import OpenAiError, invalid, missing
from portico.gateways.openai.responses.request.compaction import MAX_BYTES, expand
from portico.gateways.openai.responses.response_ids import own_call_id
from portico.v1 import events_pb2 as pb

OURS = "openai"  # this gateway's member of a message's metadata
MAX_ITEMS = 1000  # the core's limit
ROLES = {
    "user": pb.ROLE_USER,
    "system": pb.ROLE_SYSTEM,
    "developer": pb.ROLE_SYSTEM,
    "assistant": pb.ROLE_ASSISTANT,
}
# Item types stored as data, with the type and role of their message.
DATA_ITEMS = {
    "function_call": (pb.MESSAGE_TYPE_FUNCTION_CALL, pb.ROLE_ASSISTANT),
    "custom_tool_call": (pb.MESSAGE_TYPE_FUNCTION_CALL, pb.ROLE_ASSISTANT),
    "function_call_output": (pb.MESSAGE_TYPE_FUNCTION_CALL_OUTPUT, pb.ROLE_TOOL),
    "custom_tool_call_output": (pb.MESSAGE_TYPE_FUNCTION_CALL_OUTPUT, pb.ROLE_TOOL),
    "mcp_call": (pb.MESSAGE_TYPE_MCP_CALL, pb.ROLE_ASSISTANT),
    "mcp_list_tools": (pb.MESSAGE_TYPE_MCP_LIST_TOOLS, pb.ROLE_ASSISTANT),
    "mcp_approval_request": (pb.MESSAGE_TYPE_MCP_APPROVAL_REQUEST, pb.ROLE_ASSISTANT),
    "mcp_approval_response": (pb.MESSAGE_TYPE_MCP_APPROVAL_RESPONSE, pb.ROLE_USER),
}
_REQUIRED = {
    "function_call": ("call_id", "name", "arguments"),
    "custom_tool_call": ("call_id", "name", "input"),
    "function_call_output": ("call_id",),
    "custom_tool_call_output": ("call_id",),
    "mcp_call": ("name", "arguments", "server_label"),
    "mcp_list_tools": ("server_label",),
    "mcp_approval_request": ("name", "arguments", "server_label"),
    "mcp_approval_response": ("approval_request_id",),
}
# Fields stored outside the data.
_OUTSIDE = frozenset(("type", "id", "status"))


class InputItems:
    """Converts items to messages. References to other items are collected; the caller must fill in their
    messages.
    """

    def __init__(self, target: Any) -> None:
        self._target = target
        self._room = MAX_BYTES  # bytes left for expanding compactions
        self.references: list[tuple[pb.Message, str, str]] = []  # message to fill in, item id, path
        self.ids: dict[str, str] = {}  # ids that items have, with their paths

    def read(self, value: Any, field: str = "input") -> None:
        """Reads a string as one user message, or a list of items. Raises OpenAiError, BadRequest."""
        if isinstance(value, str):
            self._target.add(role=pb.ROLE_USER).content.add(type=pb.CONTENT_TYPE_TEXT).text = value
            return
        if not isinstance(value, list):
            raise invalid(
                field,
                f"must be a string or a list of items, not {body_fields.quote_value(value)}",
                "invalid_type",
            )
        for index, item in enumerate(value):
            self._item(item, f"{field}[{index}]")
        if len(self._target) > MAX_ITEMS:
            raise invalid(field, f"has more than {MAX_ITEMS} items", "array_above_max_length")

    def _item(self, item: Any, field: str) -> None:
        if not isinstance(item, dict):
            raise invalid(field, f"must be an object, not {body_fields.quote_value(item)}", "invalid_type")
        kind = item.get("type") or ("message" if "role" in item else "item_reference")
        if not isinstance(kind, str):
            raise invalid(f"{field}.type", "must be a string", "invalid_type")
        if kind == "compaction":
            items, size = expand(item, field, self._room)
            self._room -= size
            for inner in items:
                self._item(inner, field)
            return
        if kind == "compaction_trigger":
            raise invalid(field, "is not supported; use POST /v1/responses/compact", "unsupported_value")
        message = self._target.add()
        if kind == "item_reference":
            self.references.append((message, _required(item, "id", field), field))
            return
        if id := body_fields.text(item, "id", field):
            if id in self.ids:
                raise duplicate(id, f"{field}.id")
            message.id = id
            self.ids[id] = f"{field}.id"
        if kind == "message":
            _message(item, message, field)
        elif kind == "reasoning":
            _reasoning(item, message, field)
        elif kind in DATA_ITEMS:
            _data(kind, item, message, field)
        else:
            _raw(kind, item, message, field)


def duplicate(id: str, field: str) -> OpenAiError:
    """Returns the error for an item whose id is already in use."""
    message = f"Duplicate item found with id '{id}'. Remove duplicate items from your input and try again."
    return OpenAiError(message, code="duplicate_item", param=field)


def _required(item: dict[str, Any], name: str, field: str) -> str:
    if item.get(name) is None:
        raise missing(f"{field}.{name}")
    return body_fields.text(item, name, field)


def _message(item: dict[str, Any], message: pb.Message, field: str) -> None:
    role = item.get("role")
    if not isinstance(role, str) or role not in ROLES:
        raise invalid(
            f"{field}.role", f"must be one of {', '.join(ROLES)}, not {body_fields.quote_value(role)}"
        )
    message.type = pb.MESSAGE_TYPE_MESSAGE
    message.role = ROLES[role]
    content = item.get("content")
    if content is None:
        raise missing(f"{field}.content")
    kept: dict[str, Any] = {}
    if isinstance(content, str):
        message.content.add(type=pb.CONTENT_TYPE_TEXT).text = content
    elif isinstance(content, list):
        kept = _parts(content, message, f"{field}.content")
    else:
        raise invalid(f"{field}.content", "must be a string or a list of parts", "invalid_type")
    more = _without(item, "type", "id", "role", "content")
    if role == "developer":
        more["role"] = role
    phase = {"phase": item["phase"]} if isinstance(item.get("phase"), str) else {}
    _keep(message, field, item=more, content=kept, **phase)


def _reasoning(item: dict[str, Any], message: pb.Message, field: str) -> None:
    message.type = pb.MESSAGE_TYPE_REASONING
    message.role = pb.ROLE_ASSISTANT
    parts: list[Any] = []
    for name in ("summary", "content"):
        listed = item.get(name) or []
        if not isinstance(listed, list):
            raise invalid(f"{field}.{name}", "must be a list", "invalid_type")
        parts += listed
    kept = _parts(parts, message, field)
    _keep(message, field, item=_without(item, "type", "id", "summary", "content"), content=kept)


def _data(kind: str, item: dict[str, Any], message: pb.Message, field: str) -> None:
    message.type, message.role = DATA_ITEMS[kind]
    data = {name: value for name, value in item.items() if name not in _OUTSIDE}
    for name in _REQUIRED[kind]:
        _required(item, name, field)
    match kind:
        case "custom_tool_call":
            data["arguments"] = data.pop("input")
        case "mcp_call" | "mcp_approval_request":
            data["call_id" if kind == "mcp_call" else "id"] = message.id
        case "mcp_approval_response":
            if not isinstance(item.get("approve"), bool):
                raise invalid(f"{field}.approve", "must be true or false", "invalid_type")
    if kind.endswith("_output") and item.get("output") is None:
        raise missing(f"{field}.output")
    if "call_id" in _REQUIRED[kind]:
        # Call ids that the agent repeated have a suffix for clients.
        data["call_id"] = own_call_id(data["call_id"])
    message.content.add(type=pb.CONTENT_TYPE_DATA).data_json = body_fields.dump(data, field)
    more = {"status": item["status"]} if "status" in item else {}
    if kind.startswith("custom"):
        more["type"] = kind
    _keep(message, field, item=more)


def _raw(kind: str, item: dict[str, Any], message: pb.Message, field: str) -> None:
    message.type = pb.MESSAGE_TYPE_MESSAGE
    message.role = pb.ROLE_TOOL if kind.endswith("_output") else pb.ROLE_ASSISTANT
    message.content.add(type=pb.CONTENT_TYPE_DATA).data_json = body_fields.dump(item, field)
    _keep(message, field, raw=True)


def _without(item: dict[str, Any], *names: str) -> dict[str, Any]:
    return {name: value for name, value in item.items() if name not in names}


def _keep(message: pb.Message, field: str, **kept: Any) -> None:
    """Stores fields that the message can't hold in its metadata."""
    phase = kept.pop("phase", None)
    told = {name: value for name, value in kept.items() if value}
    metadata: dict[str, Any] = {OURS: told} if told else {}
    if phase is not None:
        metadata["phase"] = phase
    if metadata:
        message.metadata_json = body_fields.dump(metadata, field)


def _parts(parts: list[Any], message: pb.Message, field: str) -> dict[str, Any]:
    """Reads the parts of a message; returns the fields that its contents can't hold, by index."""
    kept: dict[str, Any] = {}
    for index, part in enumerate(parts):
        place = f"{field}[{index}]"
        if not isinstance(part, dict) or not isinstance(part.get("type"), str):
            raise invalid(place, "must be an object with a type", "invalid_type")
        read = _PARTS.get(part["type"])
        content = message.content.add(index=index)
        if read is None or (more := read(part, content, place)) is None:
            content.Clear()
            content.index = index
            content.type = pb.CONTENT_TYPE_DATA
            content.data_json = body_fields.dump(part, place)
            more = {"raw": True}
        if more:
            kept[str(index)] = more
    return kept


def _text_part(part: dict[str, Any], content: pb.Content, field: str) -> dict[str, Any]:
    content.type = pb.CONTENT_TYPE_TEXT
    content.text = _required(part, "text", field)
    return _without(part, "text")


def _refusal_part(part: dict[str, Any], content: pb.Content, field: str) -> dict[str, Any]:
    content.type = pb.CONTENT_TYPE_REFUSAL
    content.refusal = _required(part, "refusal", field)
    return _without(part, "type", "refusal")


def _image_part(part: dict[str, Any], content: pb.Content, field: str) -> dict[str, Any]:
    url = body_fields.text(part, "image_url", field)
    if url:
        content.type = pb.CONTENT_TYPE_IMAGE
        content.image.image_url = url
        return _without(part, "type", "image_url")
    content.type = pb.CONTENT_TYPE_FILE
    content.file.file_id = _required(part, "file_id", field)
    return _without(part, "file_id")


def _file_part(part: dict[str, Any], content: pb.Content, field: str) -> dict[str, Any]:
    content.type = pb.CONTENT_TYPE_FILE
    names = ("file_url", "file_id", "filename", "file_data")
    if not any(part.get(name) for name in names):
        raise missing(f"{field}.file_data")
    for name in names:
        setattr(content.file, name, body_fields.text(part, name, field))
    return _without(part, "type", *names)


def _audio_part(part: dict[str, Any], content: pb.Content, field: str) -> dict[str, Any] | None:
    audio = part.get("input_audio")
    if not isinstance(audio, dict):
        raise missing(f"{field}.input_audio")
    if set(audio) - {"data", "format"}:
        return None
    content.type = pb.CONTENT_TYPE_AUDIO
    content.audio.data = _required(audio, "data", f"{field}.input_audio")
    content.audio.format = body_fields.text(audio, "format", f"{field}.input_audio")
    return _without(part, "type", "input_audio")


_PARTS: dict[str, Callable[[dict[str, Any], pb.Content, str], dict[str, Any] | None]] = {
    "input_text": _text_part,
    "output_text": _text_part,
    "text": _text_part,
    "summary_text": _text_part,
    "reasoning_text": _text_part,
    "refusal": _refusal_part,
    "input_image": _image_part,
    "input_file": _file_part,
    "input_audio": _audio_part,
}
