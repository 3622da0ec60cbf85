"""Reads the messages that AgentScope streams: (Msg, last) pairs, each with all content so far."""

import json
from collections.abc import Iterable, Mapping
from typing import Any

from portico.agent.builders import CallDelta, Delta, NewMessage, data, tool_output
from portico.frameworks.common.url_content import content_from_url
from portico.model.messages import MessageType


class Snapshots:
    """Returns the new content of each message."""

    def __init__(self) -> None:
        self._message = ""
        self._told: dict[Any, int] = {}  # characters of each block that were already returned
        self._whole: set[Any] = set()  # blocks that were returned whole

    def say(self, item: Any) -> Iterable[object]:
        message, last = item if isinstance(item, tuple) and len(item) == 2 else (item, True)
        content = getattr(message, "content", None)
        if content is None or not hasattr(message, "role"):
            raise TypeError(
                "an AgentScope agent may yield its events, a Msg or (Msg, last), not " + type(item).__name__
            )
        said: list[object] = []
        if message.id != self._message:
            self._message = message.id
            self._told, self._whole = {}, set()
            said.append(NewMessage())
        blocks = [{"type": "text", "text": content}] if isinstance(content, str) else content
        for place, block in enumerate(blocks):
            fields = block if isinstance(block, Mapping) else block.model_dump(mode="json")
            said += self._block(place, fields, last=bool(last))
        return said

    def _new(self, place: Any, text: str) -> str:
        told = self._told.get(place, 0)
        self._told[place] = len(text)
        return text[told:]

    def _block(self, place: int, block: Mapping[str, Any], *, last: bool) -> list[object]:
        kind = block["type"]
        if kind == "text":
            new = self._new(place, block["text"] or "")
            return [new] if new else []
        if kind == "thinking":
            new = self._new(place, block["thinking"] or "")
            return [Delta(new, MessageType.REASONING)] if new else []
        if kind in ("tool_use", "tool_call"):
            return self._call(block, last=last)
        key = (kind, block.get("id") or place)
        if key in self._whole or not last:
            return []
        self._whole.add(key)
        if kind == "tool_result":
            return [_result(block)]
        source = block.get("source")
        if not isinstance(source, Mapping):
            return [data(dict(block))]
        type = str(source.get("media_type") or f"{kind}/*")
        url = str(source.get("url") or f"data:{type};base64,{source.get('data')}")
        return [content_from_url(url, type, str(block.get("name") or ""))]

    def _call(self, block: Mapping[str, Any], *, last: bool) -> list[object]:
        id, name = str(block["id"]), str(block["name"])
        arguments = block.get("raw_input") or block.get("input") or ""
        if not isinstance(arguments, str):
            # A growing object is returned once it is complete.
            arguments = json.dumps(arguments, ensure_ascii=False) if last else ""
        begun = id in self._told
        new = self._new(id, arguments)
        return [CallDelta(id, name, new)] if new or not begun else []


def _result(block: Mapping[str, Any]) -> object:
    output = block.get("output")
    if isinstance(output, list) and all(part.get("type") == "text" for part in output):
        output = "".join(part["text"] for part in output)
    return tool_output(str(block["id"]), output, name=str(block["name"]))
