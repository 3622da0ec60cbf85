"""Reads the session's messages that precede a run's own request."""

from collections.abc import Sequence

from portico.agent.context import Context
from portico.model.messages import Message

MOST = 200  # maximum number of messages for an agent
_FURTHEST = 4096  # maximum distance of the request from the end


async def earlier_messages(context: Context) -> Sequence[Message]:
    """Returns the session's messages before the run's request, oldest first.

    The request's messages are the last ones, unless the run is executed again: then the messages of
    earlier attempts follow them and are left out, because the new attempt produces them again.
    """
    own = {message.id for message in context.request.input}
    limit = MOST + len(own)
    while True:
        messages = await context.session.messages(limit=limit)
        places = [place for place, message in enumerate(messages) if message.id in own]
        if places or len(messages) < limit or limit >= _FURTHEST:
            end = places[0] if places else 0
            return messages[max(end - MOST, 0) : end]
        limit = min(limit * 4, _FURTHEST)
