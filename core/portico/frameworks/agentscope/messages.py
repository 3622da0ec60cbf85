"""Converts messages of the agent protocol to AgentScope's."""

from collections.abc import Sequence
from typing import Any

from agentscope.message import (
    AssistantMsg,
    Base64Source,
    DataBlock,
    Msg,
    SystemMsg,
    TextBlock,
    ThinkingBlock,
    ToolCallBlock,
    ToolCallState,
    ToolResultBlock,
    ToolResultState,
    URLSource,
    UserMsg,
)

from portico.frameworks.common.conversation_turns import (
    Turn,
    TurnToolResult,
    conversation_turns,
    media,
    spoken_text,
)
from portico.model.messages import Content, Message, Role


def to_agentscope(messages: Sequence[Message], *, user: str = "user", agent: str = "assistant") -> list[Msg]:
    """Converts messages; results join the message with their calls, as AgentScope expects. Data becomes JSON
    text.
    """
    said: list[Msg] = []
    for turn in conversation_turns(messages):
        if turn.role is Role.SYSTEM:
            said.append(SystemMsg("system", turn.text, **_id(turn)))
        elif turn.role is Role.USER:
            said.append(UserMsg(user, [_block(content) for content in turn.contents], **_id(turn)))
        else:
            if not said or said[-1].role != "assistant":
                said.append(AssistantMsg(agent, [], **_id(turn)))
            said[-1].content.extend(_assistant_blocks(turn))
            answered = {block.id for block in said[-1].content if block.type == "tool_result"}
            for block in said[-1].content:
                if block.type == "tool_call" and block.id in answered:
                    block.state = ToolCallState.FINISHED
    return said


def _id(turn: Turn) -> dict[str, Any]:
    return {"id": turn.id} if turn.id else {}


def _assistant_blocks(turn: Turn) -> list[Any]:
    blocks: list[Any] = [ThinkingBlock(thinking=turn.reasoning)] if turn.reasoning else []
    blocks += [_block(content) for content in turn.contents]
    blocks += [ToolCallBlock(id=call.id, name=call.name, input=call.arguments) for call in turn.calls]
    done = ToolResultState.SUCCESS
    blocks += [
        ToolResultBlock(id=result.call_id, name=result.name, output=_output(result), state=done)
        for result in turn.results
    ]
    return blocks


def _output(result: TurnToolResult) -> Any:
    """Returns a string if the output is only text, blocks otherwise."""
    words = [TextBlock(text=result.output)] if result.output else []
    return [*words, *map(_block, result.media)] if result.media else result.output


def _block(content: Content) -> Any:
    thing = media(content)
    if thing is None:
        return TextBlock(text=spoken_text(content) or "")
    if thing.id:
        # AgentScope has no block for a file's id
        return TextBlock(text=f"[{thing.kind} {thing.name or thing.id}]")
    source = (
        URLSource(url=thing.url, media_type=thing.media_type)  # type: ignore[arg-type]
        if thing.url
        else Base64Source(data=thing.base64, media_type=thing.media_type)
    )
    return DataBlock(source=source, name=thing.name or None)
