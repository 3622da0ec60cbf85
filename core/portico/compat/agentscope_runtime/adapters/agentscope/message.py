"""Converts messages of AgentScope 1 to the agent protocol's, and back, without loss.

A Msg becomes one Message for each sequence of blocks of one kind; the metadata records which Messages
belong to one Msg.
"""

import json
from collections.abc import Iterable, Mapping
from typing import Any

from agentscope.message import Msg

from portico.compat.agentscope_runtime.engine.conversion import from_message
from portico.compat.agentscope_runtime.engine.schemas.agent_schemas import (
    AudioContent,
    DataContent,
    FunctionCall,
    FunctionCallOutput,
    ImageContent,
    Message,
    MessageType,
    TextContent,
    VideoContent,
)
from portico.frameworks.agentscope1.messages import to_agentscope1


def agentscope_msg_to_message(messages: Msg | list[Msg]) -> list[Message]:
    """Converts Msgs to Messages. Raises TypeError for another type."""
    if not isinstance(messages, Msg | list):
        raise TypeError(f"Expected Msg or list[Msg], got {type(messages)}")
    return [made for msg in ([messages] if isinstance(messages, Msg) else messages) for made in _split(msg)]


def _split(msg: Msg) -> Iterable[Message]:
    about = {
        "original_id": msg.id,
        "original_name": msg.name,
        "metadata": msg.metadata,
        "timestamp": msg.timestamp,
        "text_only": isinstance(msg.content, str),
    }
    blocks: list[Any] = (
        [{"type": "text", "text": msg.content}] if isinstance(msg.content, str) else msg.content
    )
    made: list[Message] = []
    for block in blocks:
        kind = _KINDS.get(block["type"], MessageType.MESSAGE)
        # Each call and each result is a separate message.
        if not made or made[-1].type != kind or kind not in (MessageType.MESSAGE, MessageType.REASONING):
            made.append(
                Message(type=kind, role=msg.role, content=[], status="completed", metadata=dict(about))
            )
        contents = made[-1].content
        assert contents is not None
        content = _content(block)
        content.index, content.msg_id = len(contents), made[-1].id
        contents.append(content.completed())
    # A Msg without blocks still becomes a Message.
    return made or [Message(role=msg.role, content=[], status="completed", metadata=about)]


_KINDS: Mapping[str, str] = {
    "thinking": MessageType.REASONING,
    "tool_use": MessageType.PLUGIN_CALL,
    "tool_result": MessageType.PLUGIN_CALL_OUTPUT,
}


def _content(block: Mapping[str, Any]) -> Any:
    kind = block["type"]
    if kind in ("text", "thinking"):
        return TextContent(text=block.get(kind) or "")
    if kind == "tool_use":
        call = FunctionCall(
            call_id=block["id"], name=block["name"], arguments=_json(block.get("input") or {})
        )
        return DataContent(data=call.model_dump())
    if kind == "tool_result":
        output = FunctionCallOutput(
            call_id=block["id"], name=block["name"], output=_json(block.get("output"))
        )
        return DataContent(data=output.model_dump())
    source = block.get("source") or {}
    url = source.get("url") or f"data:{source.get('media_type', '')};base64,{source.get('data', '')}"
    if kind == "image":
        return ImageContent(image_url=url)
    if kind == "audio":
        type = source.get("media_type") or url.partition("?")[0].rpartition(".")[2]
        return AudioContent(data=url, format=type.rpartition("/")[2])
    return VideoContent(video_url=url) if kind == "video" else DataContent(data={"block": dict(block)})


def _json(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def message_to_agentscope_msg(messages: Message | list[Message]) -> Any:
    """Converts a Message to a Msg, and a list to the original Msgs. Raises TypeError for another type."""
    if isinstance(messages, Message):
        return _joined([messages])
    if not isinstance(messages, list):
        raise TypeError(f"Expected Message or list[Message], got {type(messages)}")
    groups: dict[str, list[Message]] = {}
    for message in messages:
        groups.setdefault(str((message.metadata or {}).get("original_id") or message.id), []).append(message)
    return [_joined(group) for group in groups.values()]


def _joined(group: list[Message]) -> Msg:
    first = group[0]
    about = first.metadata or {}
    if "original_id" not in about:
        [msg] = to_agentscope1([from_message(first)]) or [Msg("assistant", [], "assistant")]
        msg.id = first.id
        return msg
    blocks = [_block(message.type, content) for message in group for content in message.content or ()]
    content = blocks[0]["text"] if about.get("text_only") and blocks else blocks
    role: Any = "system" if first.role == "tool" else first.role or "assistant"
    msg = Msg(about["original_name"], content, role, metadata=about.get("metadata"))
    msg.id = about["original_id"]
    msg.timestamp = about.get("timestamp") or msg.timestamp
    return msg


def _block(type: str, content: Any) -> dict[str, Any]:
    if isinstance(content, TextContent):
        kind = "thinking" if type == MessageType.REASONING else "text"
        return {"type": kind, kind: content.text or ""}
    if isinstance(content, DataContent):
        data = content.data or {}
        if "block" in data:
            return dict(data["block"])
        named = {"id": data["call_id"], "name": data.get("name") or ""}
        if type == MessageType.PLUGIN_CALL:
            return {"type": "tool_use", **named, "input": _loaded(data.get("arguments"), {})}
        return {"type": "tool_result", **named, "output": _output(data.get("output"))}
    kind = content.type
    url = (content.data if kind == "audio" else getattr(content, f"{kind}_url")) or ""
    if not url.startswith("data:"):
        return {"type": kind, "source": {"type": "url", "url": url}}
    media_type, _, body = url.removeprefix("data:").partition(";base64,")
    return {"type": kind, "source": {"type": "base64", "media_type": media_type, "data": body}}


def _loaded(text: Any, otherwise: Any) -> Any:
    try:
        return json.loads(text)
    except (TypeError, ValueError):
        return otherwise


def _output(text: Any) -> Any:
    """Returns blocks if the tool returned blocks, or else its text."""
    loaded = _loaded(text, None)
    blocks = isinstance(loaded, list) and all(isinstance(one, dict) and "type" in one for one in loaded)
    return loaded if blocks else text or ""
