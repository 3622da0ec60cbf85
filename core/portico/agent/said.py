"""Messages as an agent's author writes them."""

from collections.abc import Iterable, Mapping
from typing import Any, TypeAlias

from portico.agent.dicts import from_dict
from portico.agent.protocol import Message, Role, TextContent

MessageLike: TypeAlias = str | Message | Mapping[str, Any]
MessagesLike: TypeAlias = MessageLike | Iterable[MessageLike]


def to_message(value: MessageLike) -> Message:
    """A message; a text is one of the user, and so is a dict of the agent protocol that names no role.

    Raises TypeError for anything else, ValueError for a dict that can't be read.
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
    raise TypeError(f"a message is a text, a dict or a Message, not {type(value).__name__}")


def to_messages(value: MessagesLike) -> tuple[Message, ...]:
    """One message or many. Raises TypeError, ValueError."""
    if isinstance(value, str | Message | Mapping) or not isinstance(value, Iterable):
        return (to_message(value),)
    return tuple(map(to_message, value))
