"""Converts messages of the agent protocol to Pydantic AI's."""

from collections.abc import Sequence
from typing import Any

from pydantic_ai.messages import (
    AudioUrl,
    BinaryContent,
    DocumentUrl,
    FilePart,
    ImageUrl,
    ModelMessage,
    ModelRequest,
    ModelResponse,
    SystemPromptPart,
    TextPart,
    ThinkingPart,
    ToolCallPart,
    ToolReturnPart,
    UserPromptPart,
    VideoUrl,
)

from portico.frameworks.common.conversation_turns import (
    Turn,
    TurnToolResult,
    conversation_turns,
    media,
    spoken_text,
)
from portico.model.messages import Content, Message, Role

_URLS: dict[str, Any] = {"image": ImageUrl, "audio": AudioUrl, "video": VideoUrl, "file": DocumentUrl}


def to_pydantic_ai(messages: Sequence[Message]) -> list[ModelMessage]:
    """Converts a user's turn or a round of results to a request, and an assistant's turn to a response."""
    return [_message(turn) for turn in conversation_turns(messages)]


def prompt_of(turn: Turn) -> Any:
    """Returns a string if the turn is only text, parts otherwise."""
    parts = [_content(content) for content in turn.contents]
    return turn.text if all(isinstance(part, str) for part in parts) else parts


def _message(turn: Turn) -> ModelMessage:
    if turn.role is Role.SYSTEM:
        return ModelRequest(parts=[SystemPromptPart(content=turn.text)])
    if turn.role is Role.USER:
        return ModelRequest(parts=[UserPromptPart(content=prompt_of(turn))])
    if turn.role is Role.TOOL:
        return ModelRequest(
            parts=[
                ToolReturnPart(tool_name=result.name, content=_returned(result), tool_call_id=result.call_id)
                for result in turn.results
            ]
        )
    parts: list[Any] = [ThinkingPart(content=turn.reasoning)] if turn.reasoning else []
    if turn.text:
        parts.append(TextPart(content=turn.text))
    made = [_content(content) for content in turn.contents if media(content) is not None]
    parts += [FilePart(content=thing) for thing in made if isinstance(thing, BinaryContent)]
    parts += [
        ToolCallPart(tool_name=call.name, args=call.arguments, tool_call_id=call.id) for call in turn.calls
    ]
    return ModelResponse(parts=parts)


def _returned(result: TurnToolResult) -> Any:
    things = [_content(content) for content in result.media]
    return [result.output, *things] if things else result.output


def _content(content: Content) -> Any:
    thing = media(content)
    if thing is None:
        return spoken_text(content) or ""
    if thing.url:
        return _URLS[thing.kind](url=thing.url)
    if thing.id:
        return f"[{thing.kind} {thing.name or thing.id}]"  # the provider of the file is unknown
    return BinaryContent(data=thing.bytes, media_type=thing.media_type)
