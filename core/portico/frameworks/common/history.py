"""What was said in a session before the run's own request."""

from collections.abc import Sequence

from portico.agent.context import Context
from portico.model.messages import Message

MOST = 200  # messages that an agent is given
_FURTHEST = 4096  # how far back the request may be


async def earlier_messages(context: Context) -> Sequence[Message]:
    """The session's messages before the run's request, oldest first.

    The request's are the last ones, unless the run is executed again: what its earlier attempts asked, and
    what led there, is behind them and is said once more.
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
