"""Converts between the reference's objects, which programs use, and Portico's own, which the core uses."""

from collections.abc import Iterable, Mapping
from typing import Any

from portico.agent.builders import Delta, NewMessage
from portico.compat.agentscope_runtime.engine.schemas import agent_schemas as schemas
from portico.model import messages

# the texts of these types are streamed
_STREAMED = (schemas.MessageType.MESSAGE, schemas.MessageType.REASONING)


def to_request(request: messages.AgentRequest) -> schemas.AgentRequest:
    """Returns the caller's request as the reference's object, with additional fields of the caller."""
    asked = request.parameters
    parameters: dict[str, Any] = {
        name: getattr(asked, name)
        for name in (
            *("model", "top_p", "temperature", "frequency_penalty", "presence_penalty", "max_tokens"),
            *("n", "seed"),
        )
        if getattr(asked, name) is not None
    }
    return schemas.AgentRequest(
        **{
            name: value
            for name, value in request.extra.items()
            if name not in schemas.AgentRequest.model_fields
        },
        **parameters,
        input=[to_message(message) for message in request.input],
        id=request.request_id or None,
        stop=list(asked.stop) or None,
        tools=[_tool(tool) for tool in request.tools] or None,
        session_id=request.session_id,
        user_id=request.user_id,
    )


def _tool(tool: messages.Tool) -> dict[str, Any]:
    if tool.raw:
        return dict(tool.raw)
    function = {"name": tool.name, "description": tool.description, "parameters": dict(tool.parameters)}
    return {"type": tool.type, "function": function}


def to_message(message: messages.Message) -> schemas.Message:
    contents = [
        {**_fields(content), "index": index, "delta": None, "status": "completed", "msg_id": message.id}
        for index, content in enumerate(message.content)
    ]
    return schemas.Message.model_validate(
        {
            **({"id": message.id} if message.id else {}),
            "type": message.type.value,
            "role": message.role.value,
            "status": message.status.value,
            "content": contents,
            "metadata": dict(message.metadata),
        }
    )


_TYPES: Mapping[type, str] = {
    messages.TextContent: "text",
    messages.DataContent: "data",
    messages.ImageContent: "image",
    messages.AudioContent: "audio",
    messages.FileContent: "file",
    messages.RefusalContent: "refusal",
    messages.VideoContent: "video",
}
_NAMES: Mapping[str, tuple[str, ...]] = {
    "text": ("text",),
    "data": ("data",),
    "image": ("image_url",),
    "audio": ("data", "format"),
    "file": ("file_url", "file_id", "filename", "file_data"),
    "refusal": ("refusal",),
    "video": ("video_url",),
}


def _fields(content: messages.Content) -> dict[str, Any]:
    kind = _TYPES[type(content)]
    values = {name: getattr(content, name) for name in _NAMES[kind]}
    return {
        "type": kind,
        **{name: dict(v) if isinstance(v, Mapping) else v or None for name, v in values.items()},
    }


def from_content(content: schemas.Content) -> messages.Content:
    made = next(cls for cls, kind in _TYPES.items() if kind == content.type)
    empty: Any = {} if content.type == "data" else ""
    return made(*(getattr(content, name) or empty for name in _NAMES[content.type]))  # type: ignore[no-any-return]


def from_message(message: schemas.Message) -> messages.Message:
    error = message.error or (
        schemas.Error(code=message.code, message=message.message or "") if message.code else None
    )
    return messages.Message(
        role=messages.Role(message.role or "assistant"),
        content=tuple(from_content(content) for content in message.content or ()),
        type=messages.MessageType(message.type),
        metadata=dict(message.metadata or {}),
        usage=_usage(message.usage),
        error=None if error is None else messages.Error(error.code, error.message),
    )


def _usage(usage: Mapping[str, Any] | None) -> messages.Usage | None:
    if not usage:
        return None
    given = int(usage.get("input_tokens") or usage.get("prompt_tokens") or 0)
    made = int(usage.get("output_tokens") or usage.get("completion_tokens") or 0)
    return messages.Usage(given, made, int(usage.get("total_tokens") or 0))


class Said:
    """Converts the output of a query function: the reference's events become Portico's.

    Pieces of text and reasoning are streamed; everything else is passed on when it is complete.
    """

    def __init__(self) -> None:
        self._types: dict[str, str] = {}  # types of messages, by id
        self._told: set[tuple[str, int]] = set()  # contents that were streamed at least partly

    def say(self, item: Any) -> Iterable[Any]:
        if isinstance(item, schemas.Message):
            return self._message(item)
        if isinstance(item, schemas.Content):
            return self._content(item)
        if isinstance(item, schemas.BaseResponse):
            return ()  # the run has its own
        return (item,)

    def _message(self, message: schemas.Message) -> Iterable[Any]:
        known = message.id in self._types
        self._types[message.id] = message.type
        if message.status not in (schemas.RunStatus.Completed, schemas.RunStatus.Failed):
            return () if known else (NewMessage(),)
        if any(id == message.id for id, _ in self._told):
            usage = _usage(message.usage)
            return (NewMessage(),) if usage is None else (usage, NewMessage())
        return (from_message(message),)

    def _content(self, content: schemas.Content) -> Iterable[Any]:
        id = content.msg_id or ""
        type = self._types.get(id, schemas.MessageType.MESSAGE)
        if type not in _STREAMED:
            return ()  # part of its message, once that is complete
        place = (id, content.index or 0)
        if isinstance(content, schemas.TextContent):
            if content.delta:
                self._told.add(place)
                return (Delta(content.text or "", messages.MessageType(type)),)
            if place in self._told or content.status != schemas.RunStatus.Completed:
                return ()
            self._told.add(place)
            return (Delta(content.text or "", messages.MessageType(type)),)
        if place in self._told or content.status != schemas.RunStatus.Completed:
            return ()
        self._told.add(place)
        return (from_content(content),)
