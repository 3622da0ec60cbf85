"""Converts the forms in which agent authors write messages (str, dict, Message) to Message."""

from collections.abc import Iterable, Mapping
from typing import Any, TypeAlias

from portico.agent.dict_items import from_dict
from portico.model.messages import Message, Role, TextContent

MessageLike: TypeAlias = str | Message | Mapping[str, Any]
MessagesLike: TypeAlias = MessageLike | Iterable[MessageLike]


def normalize_message(value: MessageLike) -> Message:
    """Converts to a Message. A str, and a dict of the agent protocol without a role, become user messages.

    Raises:
        TypeError: The value is neither a str, a dict nor a Message.
        ValueError: The dict lacks a member of its content.
    """
    if isinstance(value, Message):
        return value
    if isinstance(value, str):
        return Message(Role.USER, (TextContent(value),))
    if isinstance(value, Mapping):
        try:
            read = from_dict({"role": "user", **value, "object": "message"})
        except KeyError as error:
            raise ValueError(f"a message's content lacks {error}") from None
        assert isinstance(read, Message)
        return read
    raise TypeError(f"a message must be a str, a dict or a Message, not {type(value).__name__}")


def to_messages(value: MessagesLike) -> tuple[Message, ...]:
    """Converts one message or several. Raises TypeError and ValueError as `to_message` does."""
    if isinstance(value, str | Message | Mapping) or not isinstance(value, Iterable):
        return (normalize_message(value),)
    return tuple(map(normalize_message, value))
