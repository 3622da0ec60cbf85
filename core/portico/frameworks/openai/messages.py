"""Converts messages of the agent protocol to OpenAI's: for Chat Completions, and for the Responses API."""

from collections.abc import Sequence
from typing import Any

from portico.frameworks.common.conversation_turns import (
    Media,
    Turn,
    TurnToolResult,
    conversation_turns,
    media,
    spoken_text,
)
from portico.model.messages import Content, Message, Role


def to_chat(messages: Sequence[Message]) -> list[dict[str, Any]]:
    """Returns messages for `chat.completions.create(messages=…)`, without reasoning, which that API does not
    accept.
    """
    return [message for turn in conversation_turns(messages) for message in _chat(turn)]


def _chat(turn: Turn) -> list[dict[str, Any]]:
    if turn.role is Role.TOOL:
        return [{"role": "tool", "tool_call_id": r.call_id, "content": r.words} for r in turn.results]
    if turn.role is Role.USER:
        parts = [_chat_part(content) for content in turn.contents]
        plain = all(part["type"] == "text" for part in parts)
        return [{"role": "user", "content": turn.text if plain else parts}]
    if turn.role is Role.SYSTEM:
        return [{"role": "system", "content": turn.text}]
    message: dict[str, Any] = {"role": "assistant", "content": turn.text or None}
    if turn.calls:
        message["tool_calls"] = [
            {"id": c.id, "type": "function", "function": {"name": c.name, "arguments": c.arguments}}
            for c in turn.calls
        ]
    return [message] if turn.text or turn.calls else []


def _chat_part(content: Content) -> dict[str, Any]:
    thing = media(content)
    if thing is None:
        return {"type": "text", "text": spoken_text(content) or ""}
    if thing.kind == "image":
        return {"type": "image_url", "image_url": {"url": thing.data_url}}
    if thing.kind == "audio" and thing.base64:
        format = thing.media_type.partition("/")[2]
        return {"type": "input_audio", "input_audio": {"data": thing.base64, "format": format}}
    if thing.url:
        # the API accepts no such URLs
        return {"type": "text", "text": f"[{thing.kind} {thing.name}: {thing.url}]"}
    file = {"file_id": thing.id} if thing.id else {"filename": _name(thing), "file_data": thing.data_url}
    return {"type": "file", "file": file}


def _name(thing: Media) -> str:
    return thing.name or f"{thing.kind}.{thing.media_type.partition('/')[2]}"


def to_items(messages: Sequence[Message]) -> list[dict[str, Any]]:
    """Returns items for `responses.create(input=…)`."""
    return [item for turn in conversation_turns(messages) for item in _items(turn)]


def _items(turn: Turn) -> list[dict[str, Any]]:
    if turn.role is Role.TOOL:
        return [
            {"type": "function_call_output", "call_id": r.call_id, "output": _output(r)} for r in turn.results
        ]
    if turn.role is Role.ASSISTANT:
        said = [{"role": "assistant", "content": turn.text}] if turn.text else []
        return said + [
            {"type": "function_call", "call_id": c.id, "name": c.name, "arguments": c.arguments}
            for c in turn.calls
        ]
    parts = [_input_part(content) for content in turn.contents]
    plain = all(part["type"] == "input_text" for part in parts)
    return [{"role": turn.role.value, "content": turn.text if plain else parts}]


def _output(result: TurnToolResult) -> Any:
    """Returns a string if the output is only text, parts otherwise."""
    words = [{"type": "input_text", "text": result.output}] if result.output else []
    return [*words, *map(_input_part, result.media)] if result.media else result.output


def _input_part(content: Content) -> dict[str, Any]:
    thing = media(content)
    if thing is None:
        return {"type": "input_text", "text": spoken_text(content) or ""}
    if thing.kind == "image":
        return {"type": "input_image", "image_url": thing.data_url, "detail": "auto"}
    if thing.id:
        return {"type": "input_file", "file_id": thing.id}
    if thing.url:
        return {"type": "input_file", "file_url": thing.url}
    return {"type": "input_file", "filename": _name(thing), "file_data": thing.data_url}
