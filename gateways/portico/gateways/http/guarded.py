"""The last resort for errors of an application behind FastAPI's own handling."""

from collections.abc import Callable

from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send


async def guarded(
    app: ASGIApp, scope: Scope, receive: Receive, send: Send, defect: Callable[[], Response]
) -> None:
    """Answer with `defect()` when the application raises and has not answered."""
    last: Message = {}

    async def noted(message: Message) -> None:
        nonlocal last
        last = message
        await send(message)

    try:
        await app(scope, receive, noted)
    except Exception:
        # FastAPI answers a defect, in the words of our handler, and raises it once more.
        if not last:
            await defect()(scope, receive, send)
        elif last["type"] == "http.response.start" or last.get("more_body"):
            raise  # the server ends the connection
