"""Answers exceptions that FastAPI's own error handling does not catch."""

from collections.abc import Callable

from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send


async def with_error_barrier(
    app: ASGIApp, scope: Scope, receive: Receive, send: Send, defect: Callable[[], Response]
) -> None:
    """Runs the application; when it raises before it has answered, answers with `defect()`."""
    last: Message = {}

    async def noted(message: Message) -> None:
        nonlocal last
        last = message
        await send(message)

    try:
        await app(scope, receive, noted)
    except Exception:
        # FastAPI answers an unexpected exception with our handler and then raises it again.
        if not last:
            await defect()(scope, receive, send)
        elif last["type"] == "http.response.start" or last.get("more_body"):
            raise  # the server ends the connection
