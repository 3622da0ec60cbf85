"""Session messages: the messages of a run as its session stores them and as searches find them."""

import time

from portico.core.log.encoding import EventEncoder
from portico.core.log.live_run import LiveRun
from portico.core.stores.ports.stores import NewMessage
from portico.model.ids import new_id
from portico.model.messages import DataContent, Message, TextContent


def to_session_message(run: LiveRun, encoder: EventEncoder, message: Message) -> NewMessage:
    """Make the session's record of a message."""
    user_id, session_id = run.session
    return NewMessage(
        user_id=user_id,
        session_id=session_id,
        message_id=message.id or new_id("msg_"),
        role=message.role.value,
        text=searchable_text(message),
        payload=encoder.stored_message(message),
        created_at=time.time(),
        run_id=run.run_id,
        type=message.type.value,
    )


def searchable_text(message: Message) -> str:
    """The text by which searches in sessions find the message."""
    parts = []
    for content in message.content:
        if isinstance(content, TextContent):
            parts.append(content.text)
        elif isinstance(content, DataContent):
            parts += [value for value in content.data.values() if isinstance(value, str)]
    return "\n".join(parts)
