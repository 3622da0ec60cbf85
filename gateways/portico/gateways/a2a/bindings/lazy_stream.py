"""Delays the head of answers: the SDK begins streams of 0.3 before it knows whether they fail."""

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from portico.gateways.a2a.bindings.sse_rendering import RestEnvelope, error_event


async def run_until_body(app: ASGIApp, scope: Scope, receive: Receive, send: Send) -> None:
    """Runs the application. Raises its exception if no body has been sent yet, so that the caller can answer;
    later exceptions become the last event of the body.
    """
    head: Message | None = None
    begun = False

    async def send_late(message: Message) -> None:
        nonlocal head, begun
        if message["type"] == "http.response.start":
            head = message
            return
        if head is not None:
            begun, first, head = True, head, None
            await send(first)
        await send(message)

    try:
        await app(scope, receive, send_late)
    except Exception as error:
        while isinstance(error, ExceptionGroup):
            error = error.exceptions[0]
        if not begun:
            raise error from None
        await send({"type": "http.response.body", "body": error_event(RestEnvelope(), error)})
