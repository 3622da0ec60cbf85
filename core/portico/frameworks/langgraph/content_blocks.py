"""Translates content blocks of LangChain's messages, whole or in pieces, to the agent protocol."""

import json
from collections.abc import Mapping
from typing import Any

from langchain_core.messages import AIMessage, AIMessageChunk

from portico.agent.builders import CallDelta, Delta, audio, data, file, image, refusal, video
from portico.model.messages import Content, MessageType, Usage

_REASONING = MessageType.REASONING


class BlockReader:
    """Reads one message. In calls that arrive in pieces, only the first piece has the name."""

    def __init__(self) -> None:
        self._calls: dict[Any, tuple[str, str]] = {}  # by index: id and name

    def read(self, message: AIMessage) -> list[object]:
        said: list[object] = []
        if message.additional_kwargs:
            # The fields in which providers with a similar API to OpenAI's send the model's reasoning.
            thought = message.additional_kwargs.get("reasoning_content")
            if isinstance(thought, str) and thought:
                said.append(Delta(thought, _REASONING))
        content = message.content
        if isinstance(content, str):
            if content:
                said.append(content)
        else:
            for block in content:
                said += [block] if isinstance(block, str) else _said(block)
        if isinstance(message, AIMessageChunk):
            for piece in message.tool_call_chunks:
                said.append(self._piece(piece))
        else:
            for call in message.tool_calls:
                arguments = json.dumps(call["args"], ensure_ascii=False)
                said.append(CallDelta(call["id"] or "", call["name"], arguments))
            for bad in message.invalid_tool_calls:
                said.append(CallDelta(bad["id"] or "", bad["name"] or "", bad["args"] or ""))
        return said

    def _piece(self, piece: Any) -> CallDelta:
        index = piece["index"]
        id, name = self._calls.get(index, ("", ""))
        if piece["id"] and piece["id"] != id:
            id, name = piece["id"], ""
        name = name or piece["name"] or ""
        self._calls[index] = (id, name)
        return CallDelta(id, name, piece["args"] or "")


def _said(block: Mapping[str, Any]) -> list[object]:
    """Translates a block of LangChain's types, or of a provider's types that a model streams unchanged."""
    kind = block.get("type")
    if kind in ("text", "output_text", "text-plain"):
        said: list[object] = [block["text"]] if block.get("text") else []
        return [*said, data({"annotations": block["annotations"]})] if block.get("annotations") else said
    if kind in ("reasoning", "thinking"):
        return _thoughts(block)
    if kind == "refusal":
        return [refusal(str(block.get("refusal") or ""))]
    if kind in ("image", "audio", "video", "file"):
        return [_media(kind, block)]
    if kind == "image_url":
        located = block.get("image_url")
        return [image(str(located.get("url") if isinstance(located, Mapping) else located))]
    # Calls are in the message's own list; other blocks are passed unchanged.
    if kind in ("tool_use", "tool_call", "tool_call_chunk", "function_call", "input_json_delta"):
        return []
    return [data(dict(block))]


def _thoughts(block: Mapping[str, Any]) -> list[object]:
    words = block.get("reasoning") or block.get("thinking") or ""
    for summary in block.get("summary") or ():
        words += str(summary.get("text") or "")
    return [Delta(str(words), _REASONING)] if words else []


def _media(kind: str, block: Mapping[str, Any]) -> Content:
    base64 = block.get("base64") or (block.get("data") if isinstance(block.get("data"), str) else "")
    type = str(block.get("mime_type") or "")
    url = str(block.get("url") or "")
    if kind == "audio":
        return audio(base64 or url, type.partition("/")[2])
    if kind == "file":
        extras = block.get("extras")
        name = block.get("filename") or (extras.get("filename") if isinstance(extras, Mapping) else "") or ""
        id = str(block.get("file_id") or "")
        return file(url=url, id=id, name=str(name), data=base64 or "", media_type=type)
    url = url or f"data:{type or kind + '/*'};base64,{base64}"
    return image(url) if kind == "image" else video(url)


def words_of(content: Any) -> tuple[str, list[Content]]:
    """Returns the text of a tool's result, and its other content."""
    if isinstance(content, str):
        return content, []
    words: list[str] = []
    media: list[Content] = []
    for block in content:
        for said in [block] if isinstance(block, str) else _said(block):
            if isinstance(said, str):
                words.append(said)
            elif isinstance(said, Delta):
                words.append(said.text)
            else:
                media.append(said)  # type: ignore[arg-type]
    return "\n".join(words), media


def usage_of(message: AIMessage) -> list[object]:
    counted = message.usage_metadata
    if counted is None:
        return []
    heard = counted.get("input_token_details") or {}
    spoken = counted.get("output_token_details") or {}
    return [
        Usage(
            counted["input_tokens"],
            counted["output_tokens"],
            counted["total_tokens"],
            heard.get("cache_read") or 0,
            spoken.get("reasoning") or 0,
        )
    ]
