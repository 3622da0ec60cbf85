"""Converts messages of the agent protocol to AgentScope 1's."""

from collections.abc import Sequence
from typing import Any

from agentscope.message import Msg

from portico.frameworks.common.conversation_turns import (
    Turn,
    TurnToolResult,
    conversation_turns,
    media,
    spoken_text,
)
from portico.model.messages import Content, Message, Role


def to_agentscope1(messages: Sequence[Message]) -> list[Msg]:
    """Converts messages to one for each turn; results have the role system, as in AgentScope."""
    return [_message(turn) for turn in conversation_turns(messages)]


def _message(turn: Turn) -> Msg:
    if turn.role is Role.TOOL:
        results: list[Any] = [
            {"type": "tool_result", "id": result.call_id, "name": result.name, "output": _output(result)}
            for result in turn.results
        ]
        return Msg("system", results, "system")
    blocks: list[Any] = [{"type": "thinking", "thinking": turn.reasoning}] if turn.reasoning else []
    blocks += [_block(content) for content in turn.contents]
    blocks += [
        {"type": "tool_use", "id": call.id, "name": call.name, "input": call.decoded()} for call in turn.calls
    ]
    return Msg(turn.role.value, blocks, turn.role.value)  # type: ignore[arg-type]


def _output(result: TurnToolResult) -> Any:
    """Returns a string if the output is only text, blocks otherwise."""
    words = [{"type": "text", "text": result.output}] if result.output else []
    return [*words, *map(_block, result.media)] if result.media else result.output


def _block(content: Content) -> Any:
    thing = media(content)
    if thing is None:
        return {"type": "text", "text": spoken_text(content) or ""}
    if thing.kind == "file":
        # AgentScope 1 has no block for this content.
        return {"type": "text", "text": f"[file {thing.name}: {thing.url or thing.id}]"}
    source = (
        {"type": "url", "url": thing.url}
        if thing.url
        else {"type": "base64", "media_type": thing.media_type, "data": thing.base64}
    )
    return {"type": thing.kind, "source": source}
