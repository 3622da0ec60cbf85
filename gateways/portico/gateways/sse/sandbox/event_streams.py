"""Sends the events of a sandbox's call as Server-Sent Events, or as one object."""

import asyncio
import logging
from collections.abc import AsyncGenerator, Callable, Iterable
from typing import Any

import orjson
from fastapi import Request
from starlette.responses import Response, StreamingResponse

from portico.client import PorticoError
from portico.gateways.http.request.body import cancel_on_disconnect
from portico.gateways.sse.errors import defect_json, error_json
from portico.gateways.sse.json_routes import answer
from portico.gateways.sse.sandbox.sandbox_encoding import CollectedOutput

log = logging.getLogger(__name__)

FIRST_SECONDS = 0.5  # errors within this time become HTTP errors
_HEADERS = {"cache-control": "no-cache", "x-accel-buffering": "no"}
_PING = b": ping\n\n"
Items = AsyncGenerator[Any, None]
Told = Callable[[Any], Iterable[tuple[str, dict[str, Any]]]]


class _Reading:
    """Reads items one by one, each with a timeout that does not cancel the read."""

    def __init__(self, items: Items) -> None:
        self._items = items
        self._step: asyncio.Task[tuple[bool, Any]] | None = None

    async def next(self, seconds: float) -> tuple[bool, Any]:
        """Returns whether more items may follow, and the item; None if none arrived within `seconds`."""
        if self._step is None:
            self._step = asyncio.create_task(self._one())
        await asyncio.wait({self._step}, timeout=seconds)
        if not self._step.done():
            return True, None
        step, self._step = self._step, None
        return step.result()

    async def _one(self) -> tuple[bool, Any]:
        try:
            return True, await anext(self._items)
        except StopAsyncIteration:
            return False, None

    async def close(self) -> None:
        if self._step is not None:
            self._step.cancel()
            await asyncio.gather(self._step, return_exceptions=True)
        await self._items.aclose()


async def stream(request: Request, items: Items, told: Told) -> Response:
    """Streams the items as events. Raises PorticoError, Disconnected for errors within FIRST_SECONDS."""
    ping: float = request.app.state.streams.ping_seconds
    reading = _Reading(items)
    try:
        first = await cancel_on_disconnect(request.receive, reading.next(FIRST_SECONDS))
    except BaseException:
        await reading.close()
        raise

    async def body() -> AsyncGenerator[bytes, None]:
        more, item = first
        try:
            while more:
                if item is not None:
                    if text := b"".join(_event(name, value) for name, value in told(item)):
                        yield text
                elif (more, item) != first:
                    yield _PING
                more, item = await reading.next(ping)
        except PorticoError as error:
            yield _event("error", error_json(error.reason or error.code.name, error.message, error.metadata))
        except Exception:
            yield _event("error", defect_json(log))
        finally:
            await reading.close()

    return StreamingResponse(body(), 200, _HEADERS, "text/event-stream")


async def whole(request: Request, items: Items, *, rich: bool) -> Response:
    """Returns one object for all items. Raises PorticoError, Disconnected."""
    result = CollectedOutput(rich=rich)

    async def collect() -> None:
        try:
            async for item in items:
                result.take(item)
        finally:
            await items.aclose()

    await cancel_on_disconnect(request.receive, collect())
    return answer(result.json())


def wants_stream(request: Request, asked: bool) -> bool:
    """Returns whether the body or the Accept header requests a stream."""
    return asked or "text/event-stream" in request.headers.get("accept", "")


def _event(name: str, value: dict[str, Any]) -> bytes:
    return b"event: %b\ndata: %b\n\n" % (name.encode(), orjson.dumps(value))
