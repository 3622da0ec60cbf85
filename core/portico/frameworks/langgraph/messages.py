"""Converts messages of the agent protocol to LangChain's."""

from collections.abc import Mapping, Sequence
from typing import Any

from langchain_core.messages import AIMessage, BaseMessage, HumanMessage, SystemMessage, ToolCall, ToolMessage
from langchain_core.messages.tool import invalid_tool_call

from portico.frameworks.common.conversation_turns import (
    Turn,
    TurnToolCall,
    TurnToolResult,
    conversation_turns,
    media,
    spoken_text,
)
from portico.model.messages import Content, Message, Role


def to_langchain(messages: Sequence[Message]) -> list[BaseMessage]:
    """Converts messages with LangChain's content blocks; data becomes JSON text."""
    return [message for turn in conversation_turns(messages) for message in _messages(turn)]


def _messages(turn: Turn) -> list[BaseMessage]:
    id = turn.id or None
    if turn.role is Role.TOOL:
        return [
            ToolMessage(content=_output(result), tool_call_id=result.call_id, name=result.name or None)
            for result in turn.results
        ]
    content = _content(turn)
    if turn.role is Role.SYSTEM:
        return [SystemMessage(content=content, id=id)]
    if turn.role is Role.USER:
        return [HumanMessage(content=content, id=id)]
    calls = [_tool_call(call) for call in turn.calls]
    good = [call for call in calls if call["type"] == "tool_call"]
    bad = [call for call in calls if call["type"] != "tool_call"]
    return [AIMessage(content=content, id=id, tool_calls=good, invalid_tool_calls=bad)]


def _output(result: TurnToolResult) -> Any:
    """Returns a string if the output is only text, blocks otherwise."""
    words = [{"type": "text", "text": result.output}] if result.output else []
    return [*words, *map(_block, result.media)] if result.media else result.output


def _tool_call(call: TurnToolCall) -> Any:
    arguments = call.decoded()
    if arguments == {"arguments": call.arguments}:
        return invalid_tool_call(name=call.name, args=call.arguments, id=call.id)
    return ToolCall(name=call.name, args=arguments, id=call.id, type="tool_call")


def _content(turn: Turn) -> Any:
    """Returns a string if the turn is only text, blocks otherwise."""
    blocks: list[Mapping[str, Any]] = []
    if turn.reasoning:
        blocks.append({"type": "reasoning", "reasoning": turn.reasoning})
    blocks += [_block(content) for content in turn.contents]
    if all(block["type"] == "text" for block in blocks):
        return "\n".join(block["text"] for block in blocks)
    return blocks


def _block(content: Content) -> dict[str, Any]:
    thing = media(content)
    if thing is None:
        return {"type": "text", "text": spoken_text(content) or ""}
    block: dict[str, Any] = {"type": thing.kind, "mime_type": thing.media_type}
    if thing.url:
        block["url"] = thing.url
    elif thing.id:
        block["file_id"] = thing.id
    else:
        block["base64"] = thing.base64
    if thing.name:
        block["filename"] = thing.name
    return block
