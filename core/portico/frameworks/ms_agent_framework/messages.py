"""Converts messages of the agent protocol to those of the Microsoft Agent Framework."""

from collections.abc import Sequence

from agent_framework import Content as TheirContent
from agent_framework import Message as TheirMessage

from portico.frameworks.common.conversation_turns import Turn, conversation_turns, media, spoken_text
from portico.model.messages import Content, Message


def to_agent_framework(messages: Sequence[Message]) -> list[TheirMessage]:
    """Converts messages to one for each turn."""
    return [_message(turn) for turn in conversation_turns(messages)]


def _message(turn: Turn) -> TheirMessage:
    contents = [TheirContent.from_text_reasoning(text=turn.reasoning)] if turn.reasoning else []
    contents += [_content(content) for content in turn.contents]
    contents += [
        TheirContent.from_function_call(call.id, call.name, arguments=call.arguments) for call in turn.calls
    ]
    contents += [
        TheirContent.from_function_result(result.call_id, result=result.words) for result in turn.results
    ]
    return TheirMessage(turn.role.value, contents, message_id=turn.id or None)


def _content(content: Content) -> TheirContent:
    thing = media(content)
    if thing is None:
        return TheirContent.from_text(spoken_text(content) or "")
    if thing.id:
        return TheirContent.from_hosted_file(thing.id)
    return TheirContent.from_uri(thing.data_url, media_type=thing.media_type, name=thing.name or None)
