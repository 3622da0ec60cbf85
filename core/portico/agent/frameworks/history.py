"""What was said in a session before the run's own request."""

from collections.abc import Sequence

from portico.agent.context import Context
from portico.agent.protocol import Message

MOST = 200  # messages that an agent is given


async def earlier(context: Context) -> Sequence[Message]:
    """The session's messages, oldest first, without those of the request, which are its last."""
    messages = await context.session.messages(limit=MOST + len(context.request.input))
    return messages[: len(messages) - len(context.request.input)]
